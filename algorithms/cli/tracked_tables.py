"""The tables that a run gives its trackers: held-out results, rollouts, and the entropy around tool results."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..evaluation import EntropyProfile, entropy_profile
from ..tree import RolloutTree

Row = dict[str, Any]

_PROMPTS = 4
_LEAVES = 32
_CHARACTERS = 10_000
_TOKENS = 20
_RESAMPLES = 200
WITHHELD = "(withheld: the benchmark is gated; --track-gated sends it)"


def held_out_rows(when: str, measured: Mapping[str, Any]) -> list[Row]:
    """Returns a row for each held-out result.

    Args:
        when: "before" or "after".
        measured: as in before.json: NAME or NAME/ENV beside NAME_interval or NAME_interval/ENV.
    """
    rows = []
    for name, value in measured.items():
        start, _, env = name.partition("/")
        interval = measured.get(f"{name}_interval", measured.get(f"{start}_interval/{env}"))
        if interval is not None:
            rows.append({"when": when, "result": name, "mean": value, "low": interval[0], "high": interval[1]})
        elif value is not None and not isinstance(value, list | tuple):
            rows.append({"when": when, "result": name, "mean": value})
    return rows


def rollout_rows(step: int, trees: Sequence[RolloutTree], *, withheld: Callable[[RolloutTree], bool]) -> list[Row]:
    """Returns a row for each leaf of the first few trees.

    Args:
        step: that they belong to.
        trees: frozen.
        withheld: whether all text of a tree is left out.
    """
    rows = []
    for number, tree in enumerate(trees[:_PROMPTS]):
        is_withheld = withheld(tree)
        calls = {leaf: sum(bool(tree.nodes[node].tool) for node, _ in tree.path(leaf)) for leaf in tree.leaves()}
        for leaf in tree.leaves()[:_LEAVES]:
            end = tree.nodes[leaf]
            texts = {"task": tree.task, "question": tree.nodes[0].text, "rollout": _told(tree, leaf)}
            rows.append(
                {
                    "step": step,
                    "prompt": number,
                    "leaf": leaf,
                    **{name: WITHHELD if is_withheld else text[:_CHARACTERS] for name, text in texts.items()},
                    "status": str(end.status),
                    "reward": tree.total_reward(leaf),
                    "success": end.success,
                    "tool calls": calls[leaf],
                    "tokens": tree.length(leaf),
                }
            )
    return rows


def _told(tree: RolloutTree, leaf: int) -> str:
    """Returns what the model wrote and was told on the way to a leaf."""
    nodes = [tree.nodes[segment.node] for segment in tree.path(leaf)][1:]
    whole = [  # an action that was split has its text in its last piece
        node.text.strip()
        for node, after in zip(nodes, [*nodes[1:], None], strict=False)
        if node.kind == "observation" or after is None or after.kind == "observation"
    ]
    return "\n".join(whole)


def entropy_rows(step: int, trees: Sequence[RolloutTree]) -> list[Row]:
    """Returns a row for each tool and position before or after its results; none if no tool was called.

    Args:
        step: that the trees belong to.
        trees: frozen.
    """
    sampled = any(any(node.sampled) for tree in trees for node in tree.nodes if node.kind == "action")
    profile = entropy_profile(trees, tokens=_TOKENS, seed=step, resamples=_RESAMPLES) if sampled else None
    return [] if profile is None else _profile_rows(step, profile)


def _profile_rows(step: int, profile: EntropyProfile) -> list[Row]:
    return [
        {
            "step": step,
            "tool": name,
            "position": at,
            "entropy": value.mean,
            "low": value.low,
            "high": value.high,
            "tokens": value.count,
        }
        for name, tool in profile.tools.items()
        for at, value in tool.at.items()
    ]
