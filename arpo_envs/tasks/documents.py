"""A user's own documents, from a JSON Lines or Parquet file of any length: what is not asked for stays on disk."""

import io
import json
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .lines import digest_of, placed_rows, text_of
from .parquet import ParquetTexts, is_parquet
from .world import FORMAT, Document, cache_directory, write_atomically

_EXPECTED = '{"title": "…", "text": "…"}'
_TEXTS = ("title", "text")
_FORMAT = 2
"""Raised whenever the same file gives other documents."""
_KEPT = 5000
"""From this many documents on, where the lines begin is kept on disk: to find out, each has to be read."""


@dataclass(frozen=True)
class FileCorpus:
    """Documents from a JSON Lines file with lines {"title": "…", "text": "…"}, or from a Parquet file with these columns.

    A document that does not begin with its title gets it in front, as "title: text".

    Args:
        path: the file; Parquet if its name ends in ".parquet", which needs pyarrow, otherwise JSON Lines in UTF-8.
        digest: of its content, so that an edited file is a different corpus; computed if left empty.

    Raises:
        ConfigError: the file is missing or empty, or a line or row is not as described; the message names the line or row.
    """

    path: Path
    digest: str = ""

    def __post_init__(self) -> None:
        """Reads the file once, so that its mistakes show early."""
        object.__setattr__(self, "digest", self.digest or digest_of(Path(self.path)))
        object.__setattr__(self, "path", Path(self.path).absolute())  # it may be read by another process, elsewhere
        self.documents()

    @property
    def name(self) -> str:
        """The file's name and a digest of its content."""
        return f"documents({self.path.name}, {self.digest})"

    def key(self) -> str:
        """Returns the part of cached files' names that identifies the content."""
        return f"file-{self.digest}-{FORMAT}-{_FORMAT}"

    def documents(self) -> Sequence[Document]:
        """Returns the documents in the file's order."""
        return _documents(self.path, self.digest)


class FileDocuments(Sequence[Document]):
    """The documents of a file, each read when it is asked for; may be used from several threads.

    Args:
        path: the file.
        bounds: [N + 1], the bytes at which its lines begin, in order, and where the last one ends.
    """

    def __init__(self, path: Path, bounds: NDArray[np.int64]) -> None:
        self._path, self._bounds = path, bounds
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # not mapped: a file that shrinks would kill the process
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, number: int) -> Document: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Document]: ...
    def __getitem__(self, number: int | slice) -> Document | Sequence[Document]:
        """Returns a document, or several.

        Raises:
            ConfigError: the file has been changed.
        """
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        start, end = int(self._bounds[place]), int(self._bounds[place + 1])
        try:
            row = json.loads(os.pread(self._file, end - start, start).strip())  # with the blank lines behind it
            return Document.titled(row["title"], row["text"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self._path} was changed while it was in use. Start again.") from error

    def __iter__(self) -> Iterator[Document]:
        """Yields all of them."""
        return (self[number] for number in range(len(self)))


@lru_cache(maxsize=4)
def _documents(path: Path, digest: str) -> Sequence[Document]:
    if is_parquet(path):
        return _documents_of_parquet(path, cache_directory() / f"rows-{digest}.jsonl")
    kept = cache_directory() / f"lines-{digest}.npy"
    try:
        return FileDocuments(path, np.load(kept, mmap_mode="r"))
    except (OSError, ValueError, EOFError):  # not there, or damaged
        return FileDocuments(path, _placed(path, kept))


def _documents_of_parquet(path: Path, lines: Path) -> Sequence[Document]:
    """Returns the documents of a Parquet file: a few in memory, many from a copy of their texts, in `lines`.

    A row alone cannot be read from Parquet, only with thousands of others.
    """
    kept = lines.with_suffix(".npy")
    try:
        bounds = np.load(kept, mmap_mode="r")
        if lines.stat().st_size == bounds[-1]:
            return FileDocuments(lines, bounds)
    except (OSError, ValueError, EOFError, IndexError):  # not there, or damaged
        pass
    rows = ParquetTexts(path, _TEXTS)
    if len(rows) >= _KEPT and rows.copy_as_lines(lines):
        return FileDocuments(lines, _placed(lines, kept))
    return tuple(Document.titled(**row) for row in rows)


def _placed(path: Path, kept: Path) -> NDArray[np.int64]:
    """Returns where the lines of a file begin and the last one ends, which it keeps if they are many."""
    bounds = np.fromiter(_bounds(path), np.int64)
    if len(bounds) > _KEPT:
        content = io.BytesIO()
        np.save(content, bounds)
        write_atomically(kept, content.getvalue())
    return bounds


def _bounds(path: Path) -> Iterator[int]:
    """Yields where the lines of a file begin, all of which it checks, and where the file ends."""
    for number, start, row in placed_rows(path, _EXPECTED):
        for name in _TEXTS:
            text_of(path, number, row, name)
        yield start
    yield path.stat().st_size
