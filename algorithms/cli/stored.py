"""The stored trees of a run, found by step, prompt or task; only trees that are looked at are read."""

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from ..tracking.trees import TreeFile
from ..tree import RolloutTree
from .viewer import outcome

_NAMES = ("trees.jsonl.zst", "trees.jsonl")


@dataclass(frozen=True)
class Stored:
    """A file of trees.

    Args:
        file: knows where they are.
    """

    file: TreeFile

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    @property
    def count(self) -> int:
        """How many trees it has."""
        return len(self.file)

    def tree(self, number: int) -> RolloutTree:
        """Returns a tree, frozen.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            found = self.file.read(number)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"Tree {number} of {self.path} cannot be read: {error}") from error
        return found if found.frozen else found.freeze()

    def step_of(self, number: int) -> int:
        """Returns the step that a tree belongs to."""
        return int(self.tree(number).meta.get("step", 0))

    def step_from(self, step: int) -> int:
        """Returns a step that has trees: this one, or the next one that has some; at most that of the last tree."""
        return self.step_of(bisect.bisect_left(range(self.count - 1), step, key=self.step_of))

    def of_step(self, step: int) -> range:
        """Returns the numbers of a step's trees; steps are in order, so that a few trees are read to find them.

        Raises:
            ConfigError: there is no such step.
        """
        numbers = range(self.count)
        start, end = (side(numbers, step, key=self.step_of) for side in (bisect.bisect_left, bisect.bisect_right))
        if start == end:
            first, last = self.step_of(0), self.step_of(-1)
            raise ConfigError(f"There are no trees of step {step}: {self.path} has those of steps {first} to {last}.")
        return range(start, end)


def file_of_trees(path: Path) -> Path | None:
    """Returns the file of a run's trees, given its folder or the file itself; None if there is none."""
    files = [path] if path.is_file() else [path / name for name in _NAMES if (path / name).is_file()]
    return files[0] if files else None


def stored(path: Path) -> Stored:
    """Returns the trees of a run's folder or of a file.

    Raises:
        ConfigError: there are none.
    """
    file = file_of_trees(path)
    if file is None:
        raise ConfigError(
            f"{path} has no trees: expected the folder of a run, which has {_NAMES[0]}, or such a file. "
            "With --keep-trees none, `arpo train` keeps none."
        )
    try:
        found = Stored(TreeFile(file))
    except ValueError as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if not found.count:
        raise ConfigError(f"{file} has no tree yet.")
    return found


@dataclass(frozen=True)
class Wanted:
    """Which leaves count.

    Args:
        outcome: "right", "wrong" or "failed"; None for all.
        tool: that ran on their path.
        status: of their end.
    """

    outcome: str | None = None
    tool: str | None = None
    status: str | None = None

    def leaves(self, tree: RolloutTree) -> list[int]:
        """Returns the leaves of a tree that are wanted."""
        return [leaf for leaf in tree.leaves() if self._has(tree, leaf)]

    def _has(self, tree: RolloutTree, leaf: int) -> bool:
        node = tree.nodes[leaf]
        return (
            (self.outcome is None or outcome(tree, leaf) == self.outcome)
            and (self.status is None or node.status == self.status)
            and (self.tool is None or any(tree.nodes[index].tool == self.tool for index, _ in tree.path(leaf)))
        )


def row(tree: RolloutTree, leaves: Sequence[int]) -> dict[str, Any]:
    """Returns what an overview says of a tree.

    Args:
        tree: frozen.
        leaves: those that count for rewards and statuses.
    """
    paid = [tree.total_reward(leaf) for leaf in leaves]
    considered = [node.decision for node in tree.nodes if node.decision is not None]
    return {
        "task": tree.task,
        "leaves": len(leaves),
        "right": sum(outcome(tree, leaf) == "right" for leaf in leaves),
        "reward": sum(paid) / len(paid) if paid else None,
        "forks": sum(node.origin == "branch" for node in tree.nodes),
        "considered": len(considered),
        "statuses": dict(Counter(str(tree.nodes[leaf].status) for leaf in leaves)),
    }


def document(tree: RolloutTree, leaves: Sequence[int]) -> Mapping[str, Any]:
    """Returns a tree for JSON: its nodes with means over their tokens, and the numbers of its wanted leaves."""
    return {"task": tree.task, **tree.meta, "leaves": list(leaves), "nodes": list(_records(tree))}


def _records(tree: RolloutTree) -> Iterator[dict[str, Any]]:
    for index, node in enumerate(tree.nodes):
        count = len(node.tokens)
        drawn = bool(count) and node.kind == "action"
        yield {
            "node": index,
            "parent": node.parent,
            "kind": node.kind,
            "origin": node.origin,
            "text": node.text,
            "tokens": count,
            "entropy": sum(node.entropies) / count if drawn else None,
            "logprob": sum(node.logprobs) / count if drawn else None,
            "tool": node.tool,
            "tool_status": node.tool_status,
            "decision": node.decision._asdict() if node.decision is not None else None,
            "status": node.status,
            "reward": node.reward,
            "success": node.success,
        }
