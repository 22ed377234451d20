"""What is on its way between processes: trees as bytes, compressed together, and errors that can be read there."""

import pickle
from collections.abc import Iterable
from typing import Any

from arpo_envs import ArpoError

from ..rollout import reason
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


def portable(error: Any) -> Any:
    """Returns an error that another process can read: itself, if it survives that, or else its reason.

    >>> portable(ValueError("no")), portable(UnicodeDecodeError("utf-8", b"", 0, 1, "bad"))
    (ValueError('no'), UnicodeDecodeError('utf-8', b'', 0, 1, 'bad'))
    """
    try:
        again = pickle.loads(pickle.dumps(error))  # our own bytes
    except Exception:  # noqa: BLE001  # an error of a tool may hold anything
        again = None
    if type(again) is type(error) and reason(again) == reason(error):
        return error.with_traceback(None)
    return ArpoError(reason(error))
