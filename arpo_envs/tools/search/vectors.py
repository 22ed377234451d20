"""The vectors of a corpus: computed once, in batches, and kept in a file that all processes map and none can write to."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...progress import shown
from ...tasks.world import Document
from .products import longest

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Any]
"""Returns an array of numbers [N, H], one row for each text."""
Encode = Callable[[Sequence[str]], Vectors]
"""Does the same, checked and in 32 bits."""

_LONGEST = 1e15
"""Products of longer vectors may be too large for 32 bits."""
_LONG = 2000
"""Documents that take some seconds to embed."""
_ALIKE = 0.02
"""How far, relative to its length, a vector may be from what it was: models compute in 16 bits, and batches differ."""


def embedded(embed: Embed, texts: Sequence[str], what: str, *, normalise: bool, zero: bool = False) -> Vectors:
    """Returns the vectors of texts, [N, H].

    Args:
        embed: the user's function.
        texts: what it is given, as a list.
        what: how messages name it.
        normalise: whether vectors are divided by their lengths.
        zero: whether a vector may be zero; normalised, it stays zero.

    Raises:
        ConfigError: it fails, or does not return one usable vector for each text; the message says what it returned.
    """
    try:
        found = np.asarray(embed(list(texts)))
    except Exception as error:  # someone else's function may fail in any way; the user must be told whose it was
        raise ConfigError(f"{what} failed: {type(error).__name__}: {error}") from error
    if found.ndim != 2 or found.dtype.kind not in "fiu" or len(found) != len(texts) or not found.shape[1]:
        raise ConfigError(
            f"{what} returned {found.dtype} of shape {found.shape} for {len(texts)} texts. "
            "Expected an array of numbers with one row for each text."
        )
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.square(found, dtype=np.float64).sum(axis=1))
    for wrong, why in (
        (~np.isfinite(lengths), "NaN or infinity in it"),
        (lengths > _LONGEST, f"a length over {_LONGEST:g}"),
        (lengths == 0 if not zero else np.zeros(len(texts), bool), "only zeros in it"),
    ):
        if wrong.any():
            raise ConfigError(f"{what} returned a vector with {why} for {texts[int(wrong.argmax())]!r:.80}. Check the model.")
    scale = np.where(lengths > 0, lengths, 1.0)[:, None] if normalise else 1.0
    return np.ascontiguousarray(found / scale, np.float32)


def vectors_of(documents: Sequence[Document], encode: Encode, batch: int, path: Path | None) -> tuple[Vectors, float]:
    """Returns the vectors of documents, [N, H], and the length of the longest.

    Args:
        documents: what is embedded: their texts.
        encode: returns the vectors of a batch.
        batch: texts in one.
        path: where they are kept, if that is possible there; None keeps them in memory only. What is there already is used if
            it still is what `encode` returns for a few of the documents.
    """
    if path is None:
        return _in_memory(documents, encode, batch)
    if (kept := _kept(path, documents, encode)) is not None:
        return kept
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):  # of several processes, one computes while the others wait
            if (kept := _kept(path, documents, encode)) is not None:
                return kept
            _write(path, documents, encode, batch)
            kept = _kept(path, documents, encode)
    except OSError:  # it cannot be written here
        kept = None
    return kept or _in_memory(documents, encode, batch)


def _kept(path: Path, documents: Sequence[Document], encode: Encode) -> tuple[Vectors, float] | None:
    """Returns what is in a file, without reading it into memory; None if it is not there, or of another model."""
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if found.dtype != np.float32 or found.ndim != 2 or len(found) != len(documents):
        return None
    some = sorted({0, len(documents) // 2, len(documents) - 1})
    fresh = encode([documents[number].text for number in some])
    if fresh.shape[1] != found.shape[1]:
        return None
    apart = np.linalg.norm(fresh - found[some], axis=1) > _ALIKE * np.linalg.norm(fresh, axis=1)
    length = longest(found)
    return None if apart.any() or not np.isfinite(length) else (found, length)


def _write(path: Path, documents: Sequence[Document], encode: Encode, batch: int) -> None:
    """Writes the vectors of documents to a file, of which no other process ever sees half."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:  # not mapped: a full disk would kill the process
            for vectors in _batches(documents, encode, batch):
                if not file.tell():
                    shape = (len(documents), vectors.shape[1])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(vectors.astype("<f4", copy=False).tobytes())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _in_memory(documents: Sequence[Document], encode: Encode, batch: int) -> tuple[Vectors, float]:
    found = np.concatenate(list(_batches(documents, encode, batch)))
    found.flags.writeable = False
    return found, longest(found)


def _batches(documents: Sequence[Document], encode: Encode, batch: int) -> Iterator[Vectors]:
    """Yields the vectors of all documents, batch by batch, and shows how far it is."""
    width = None
    starts = range(0, len(documents), batch)
    long = _LONG // batch
    for start in shown(starts, len(starts), "Embedding documents, once", long=long):
        vectors = encode([document.text for document in documents[start : start + batch]])
        width = width or vectors.shape[1]
        if vectors.shape[1] != width:
            raise ConfigError(f"The embedder returned vectors of {width} numbers, and then of {vectors.shape[1]}.")
        yield vectors


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lets one process at a time compute a file; one that is killed lets go."""
    lock = os.open(f"{path}-lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
