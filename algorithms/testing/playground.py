"""What algorithms are tried on: a small forkable environment, a scripted player, and the trees they grow."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from arpo_envs import CloneError, ForkLevel, Outcome, Score, Session, Task, ToolEnv, ToolResult, ToolSpec

from ..advantages import Credit, Scores
from ..advantages.paths import column
from ..algorithm import Algorithm
from ..branching.strategy import BranchingStrategy, BranchPoint, Grow
from ..policies.scripted import ScriptedPolicy
from ..rendering.text import ScriptedRenderer
from ..rollout import Start, collect
from ..tree import RolloutTree

_LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})


class _Questions:
    name = "questions"

    def draw(self, rng: np.random.Generator) -> Task:
        return self.get("abcd"[int(rng.integers(4))])

    def get(self, task_id: str) -> Task:
        return Task(task_id, f"What is {task_id}?", ("1",))


class _Looking:
    """Returns one of two texts and keeps no other state, so that paths meet again in equal states."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        return ToolResult(f"seen {self.rng.integers(2)}")

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        twins: list[Session | CloneError] = []
        for _ in range(n):
            rng = np.random.default_rng(0)
            rng.bit_generator.state = self.rng.bit_generator.state
            twins.append(_Looking(rng))
        return twins

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def close(self) -> None:
        pass


class _Look:
    specs = (_LOOK,)
    fork_level = ForkLevel.EXACT

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        return _Looking(rng)


def _paid(task: Task, outcome: Outcome) -> Score:
    """Pays the number in the answer, −1 if there is none."""
    try:
        value = float(outcome.answer or "nothing")
    except ValueError:
        value = -1.0
    return Score(value, float(value == 1.0))


def _env() -> ToolEnv:
    return ToolEnv(tasks=_Questions(), tools=(_Look(),), reward=_paid, max_turns=8)


def _script(before: str, seed: int) -> str:
    """Looks one to three times, then answers; how often, and at what, depends on the seed."""
    if before.count("</result>") < 1 + seed % 3:
        return f"<think>{seed % 10**6:06}</think><look>{seed % 100:02}</look>"
    return f"<answer>{seed % 11 / 4}</answer>"


def _entropies(before: str, seed: int) -> list[float]:
    """Differs from token to token and path to path, in nats."""
    return [abs(float(np.sin(seed % 1000 + place))) for place in range(60)]


@dataclass(frozen=True)
class Watched:
    """A branching strategy that passes everything on, and records what it was asked and what it returned.

    Args:
        inner: the strategy under test.
        complaints: what was wrong with its plans.
        first: how many rollouts the first plan of each tree starts at the prompt, and how many it should.
        inside: plans that grow inside a tree, as text.
        answers: everything `on_result` returned.
    """

    inner: BranchingStrategy
    complaints: list[str] = field(default_factory=list)
    first: list[tuple[int, int]] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    @property
    def keeps(self) -> Literal["none", "action"]:
        """As the strategy says."""
        return self.inner.keeps

    @property
    def probe(self) -> int:
        """As the strategy says."""
        return self.inner.probe

    @property
    def forks(self) -> bool:
        """As the strategy says."""
        return self.inner.forks

    @property
    def roots(self) -> int | None:
        """As the strategy says."""
        return self.inner.roots

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Asks the strategy, and checks its plan."""
        fresh = not tree.roots()
        plan = list(self.inner.plan(tree, left, rng))
        self.complaints.extend(complaint for grow in plan if (complaint := wrong_place(tree, grow, self.inner.keeps)))
        if not self.complaints:
            self.inside.extend(str(grow) for grow in plan if grow.node != 0 and grow.count > 0)
            if fresh:
                wanted = left if self.inner.roots is None else min(self.inner.roots, left)
                self.first.append((sum(grow.count for grow in plan if grow.node == 0), wanted))
        return plan

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Asks the strategy; an invalid answer counts as 0, so that the tree continues to grow."""
        answer = self.inner.on_result(point, rng)
        self.answers.append(answer)
        return answer if isinstance(answer, int | np.integer) and answer >= 0 else 0


def wrong_place(tree: RolloutTree, grow: Any, keeps: str) -> str | None:
    """Returns what is wrong with one entry of a plan, or None."""
    if not isinstance(grow, Grow):
        return f"a plan holds {grow!r}"
    if not 0 <= grow.node < len(tree.nodes):
        return f"{grow}, but the tree has {len(tree.nodes)} nodes"
    if grow.count < 0:
        return f"{grow} with a count below 0"
    if grow.node != 0 and keeps != "action":
        return f"{grow} inside a tree, but keeps is {keeps!r}"
    node = tree.nodes[grow.node]
    inside = node.kind == "action" and 0 < grow.at < len(node.tokens)
    if not inside and (node.kind == "action" or grow.at != len(node.tokens)):
        return f"{grow}: that node is a {node.kind} of {len(node.tokens)} tokens"
    return None


@dataclass(frozen=True)
class _Plan:
    branching: Watched
    rollouts: int


@dataclass(frozen=True)
class Playground:
    """An algorithm under test, and what it grows.

    Args:
        algorithm: what is checked.
        seeds: of the batches that are grown.
        prompts: trees per batch.
    """

    algorithm: Algorithm
    seeds: tuple[int, ...]
    prompts: int

    @cached_property
    def watched(self) -> Watched:
        """The strategy, watched while `batches` grow."""
        return Watched(self.algorithm.branching)

    def grown(self) -> Watched:
        """Returns what the strategy did while `batches` grew."""
        len(self.batches)  # they grow when first asked for
        return self.watched

    @cached_property
    def batches(self) -> list[list[RolloutTree]]:
        """One batch for each seed."""
        return [self.grow(seed) for seed in self.seeds]

    def grow(self, seed: int) -> list[RolloutTree]:
        """Grows a batch of trees with the algorithm's strategy."""
        starts = [Start(seed=100 * seed + i) for i in range(self.prompts)]
        policy, plan = ScriptedPolicy(_script, _entropies), _Plan(self.watched, self.algorithm.rollouts)
        return asyncio.run(collect(_env, starts, policy, ScriptedRenderer(), plan, seed=seed))

    def credit(self, trees: Sequence[RolloutTree]) -> Credit:
        """Returns the credit of trees whose reference equals the sampler and whose values are constant."""
        return self.algorithm.credit(trees, self.scores(trees))

    def scores(self, trees: Sequence[RolloutTree], *, reference: float = 0.0) -> Scores:
        """Returns scores as a learner might compute them, as far as the algorithm needs them.

        Args:
            trees: frozen.
            reference: how far the reference is from the sampler, nats.
        """
        logprobs = tuple(tuple(column(tree, leaf, "logprobs") + reference for leaf in tree.leaves()) for tree in trees)
        values = tuple(tuple(np.full(len(row), 0.25) for row in rows) for rows in logprobs)
        needs = self.algorithm.needs
        return Scores(logprobs if "reference" in needs else None, values if "values" in needs else None)


def with_rewards(tree: RolloutTree, rewards: Mapping[int, float]) -> RolloutTree:
    """Returns a tree whose leaves have different total rewards, including what was paid on the way."""
    changed = replace(tree, nodes=list(tree.nodes))
    for leaf, reward in rewards.items():
        before = tree.total_reward(leaf) - (tree.nodes[leaf].reward or 0.0)
        changed.nodes[leaf] = replace(tree.nodes[leaf], reward=reward - before)
    return changed
