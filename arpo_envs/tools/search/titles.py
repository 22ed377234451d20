"""Finds documents by their titles, in a table of digests that can be kept on disk and shared by all processes."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...tasks.text import fold, plain
from ...tasks.world import write_atomically

_MOST = 1000
"""Documents with one title that are looked at."""


def name_of(text: str) -> str:
    """Returns the form in which titles are compared: the words, or the symbols if there are no words (the band "!!!")."""
    return fold(text) or plain(text).strip()


class Titles:
    """A table of titles.

    Args:
        digests: [I], of the names, ascending.
        numbers: [I], of the documents; ascending where digests are equal.
    """

    def __init__(self, digests: NDArray[np.uint64], numbers: NDArray[np.int64]) -> None:
        self._digests, self._numbers = digests, numbers

    @classmethod
    def of(cls, titles: Iterable[str]) -> "Titles":
        """Returns the table of some titles."""
        digests = np.fromiter((_digest(name_of(title)) for title in titles), np.uint64)
        order = np.argsort(digests, kind="stable")
        return cls(digests[order], order)

    @classmethod
    def kept(cls, path: Path) -> "Titles | None":
        """Returns the table in a file, without reading it whole; None if there is none, or it is damaged."""
        try:
            table = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        return cls(table[0], table[1].view(np.int64)) if table.ndim == 2 and len(table) == 2 else None

    def keep(self, path: Path) -> None:
        """Writes the table to a file."""
        content = io.BytesIO()
        np.save(content, np.stack([self._digests, self._numbers.view(np.uint64)]))
        write_atomically(path, content.getvalue())

    def candidates(self, name: str) -> list[int]:
        """Returns the documents that may have this name, in their order: two names can have one digest."""
        digest = _digest(name)
        first = int(np.searchsorted(self._digests, digest))
        last = int(np.searchsorted(self._digests[first : first + _MOST], digest, side="right")) + first
        return [int(number) for number in self._numbers[first:last]]


def _digest(name: str) -> np.uint64:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
