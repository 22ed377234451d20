"""Trees on their way between processes: their arrays as bytes, compressed together."""

from collections.abc import Iterable

from ..tree import RolloutTree


def packed(trees: Iterable[RolloutTree]) -> bytes:
    """Returns trees as one block of bytes; the same trees give the same bytes.

    >>> from ..tree import RolloutTree
    >>> tree = RolloutTree("a task", {"step": 3}, frozen=True)
    >>> unpacked(packed([tree, tree])) == [tree, tree], unpacked(packed([]))
    (True, [])
    """
    import zstandard  # only where something is sent

    return zstandard.compress("\n".join(tree.to_json() for tree in trees).encode("utf-8", "surrogateescape"))


def unpacked(block: bytes) -> list[RolloutTree]:
    """Returns the trees that `packed` was given."""
    import zstandard

    text = zstandard.decompress(block).decode("utf-8", "surrogateescape")
    return [RolloutTree.from_json(line) for line in text.split("\n") if line]
