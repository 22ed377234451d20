"""Grows a rollout tree with a scripted policy and prints it. Needs no torch: `collect` works without a trainer.

python examples/rollout_tree.py
"""

import asyncio
import re
from dataclasses import dataclass

import gymnasium as gym

import arpo_envs  # noqa: F401  # importing it registers the environments
from algorithms import RolloutTree, Start, collect
from algorithms.branching import Bernoulli, EntropyBranching
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer


@dataclass(frozen=True)
class Plan:
    """All that `collect` needs of an algorithm; `algorithms.make("arpo")` has these, and a loss."""

    branching: EntropyBranching
    rollouts: int


def script(before: str, seed: int) -> str:
    """A policy in two lines: looks the city up, then answers too early or looks up its country, by chance."""
    documents = re.findall(r"<result>(.*?)</result>", before)
    if not documents:
        return "<search>Köln</search>"
    if len(documents) == 1 and seed % 2:
        return "<search>Germany</search>"
    found = re.search(r"(?:capital|nearest city) ([^;.]+)", documents[-1])
    return f"<answer>{found[1]}</answer>"


def entropies(before: str, seed: int) -> list[float]:
    """Pretends to be unsure after a result, which is where ARPO forks."""
    return [2.0 if "<result>" in before else 0.5] * 60


def lines(tree: RolloutTree, index: int = 0, indent: str = "") -> list[str]:
    """Returns a tree as text: one line for each action, with its outcome."""
    children = [i for i, node in enumerate(tree.nodes) if node.parent == index]
    shown = []
    for child in children:
        node, last = tree.nodes[child], child == children[-1]
        origin = f"[{node.origin}] " if node.origin else ""
        below = [i for i, other in enumerate(tree.nodes) if other.parent == child]
        if node.status is not None:
            gave = f"{node.status}, reward {node.reward:g}"
        else:  # in a tree that was not forked inside an action, exactly one observation follows each action
            child = below[0]
            gave = re.sub(r"</?result>", "", tree.nodes[child].text)[:48] + "…"
        shown.append(f"{indent}{'└─' if last else '├─'} {origin}{node.text}  →  {gave}")
        shown += lines(tree, child, indent + ("   " if last else "│  "))
    return shown


def make_env() -> gym.Env:
    """Returns an environment on the ten largest cities of each country."""
    return gym.make("ARPO/Search-v0", cities_per_country=10, split="test", results=1)


if __name__ == "__main__":
    arpo = Plan(EntropyBranching(roots=2, rule=Bernoulli(alpha=0.5, beta=0.2), probe=4), rollouts=6)
    start = Start(seed=0, options={"task": "city-2886242/country/capital"})
    policy = ScriptedPolicy(script, entropies)
    (tree,) = asyncio.run(collect(make_env, [start], policy, ScriptedRenderer(), arpo, seed=3))
    print(tree.nodes[0].text)
    print("\n".join(lines(tree)))
    calls = tree.tool_calls()
    print(f"\n{len(tree.leaves())} rollouts; {calls.executed} tool calls run, {calls.inherited} inherited by forks")
