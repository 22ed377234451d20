"""Trees on disk."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from .rollout_tree import RolloutTree


def write_trees(path: Path, trees: Iterable[RolloutTree]) -> None:
    """Appends trees to a JSONL file, one per line."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(tree.to_json() + "\n" for tree in trees)


def read_trees(path: Path) -> Iterator[RolloutTree]:
    """Yields the trees of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield RolloutTree.from_json(line)
