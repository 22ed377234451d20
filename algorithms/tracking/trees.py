"""Trees on disk: one line of JSON per tree, each compressed on its own, with an index of where they end.

A file whose name ends in `.zst` holds one zstd frame per tree. Beside it is `<name>.index`, which holds the end of each frame
in eight bytes. The index is written after the frames and can always be rebuilt from them, so it is not necessary; it only
makes finding a tree fast. A last frame that was cut off by a kill does not count: readers skip it, and the next writer
removes it.
"""

import json
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arpo_envs import ConfigError

from ..durable import sync
from ..tree import RolloutTree

_MAGIC = b"\x28\xb5\x2f\xfd"
_LONGEST_HEADER = 18
_END = np.dtype("<i8")
_BLOCK = 1 << 20
_RUN_LENGTH = 1
"""The kind of a block that holds a single byte, repeated when it is decompressed."""

Ends = NDArray[np.int64]
Data = bytes | mmap.mmap


def write_trees(path: Path, trees: Iterable[RolloutTree]) -> None:
    """Appends trees to a file, one line each; compressed if its name ends in `.zst`.

    Raises:
        ValueError: the file is damaged before its end.
        ConfigError: zstandard is not installed.
    """
    if path.suffix != ".zst":
        with path.open("a", encoding="utf-8") as lines:
            lines.writelines(tree.to_json() + "\n" for tree in trees)
        return
    compressor = _zstandard().ZstdCompressor(write_checksum=True)
    _mend(path)
    ends: list[int] = []
    with path.open("ab") as file:
        for tree in trees:
            file.write(compressor.compress((tree.to_json() + "\n").encode()))
            ends.append(file.tell())
    with _index(path).open("ab") as index:
        index.write(np.array(ends, _END).tobytes())


def read_trees(path: Path) -> Iterator[RolloutTree]:
    """Yields the trees of a file, compressed or not; it may be in the older format with numbers as text.

    Raises:
        ValueError: the file is damaged before its end.
        ConfigError: it is compressed, and zstandard is not installed.
    """
    return (RolloutTree.from_json(line) for line in _lines(path))


class TreeFile:
    """The trees of a file, found by their numbers: where they end is looked up once, and not for each tree.

    Args:
        path: of the file, compressed or not.

    Raises:
        ValueError: the file is damaged before its end.
        ConfigError: it is compressed, and zstandard is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_compressed = _is_compressed(path)
        self._file, self._size, self._ends = -1, 0, np.empty(0, _END)
        self.look()

    def __len__(self) -> int:
        """Returns how many trees were in the file when it was last looked at."""
        return len(self._ends)

    def look(self) -> bool:
        """Looks for trees that were written since; returns whether those from before still have their numbers."""
        found, before = self.path.stat(), self._ends
        if (found.st_ino, found.st_size) == (self._file, self._size):
            return True
        is_same = found.st_ino == self._file and found.st_size > self._size
        self._file, self._size = found.st_ino, found.st_size
        if self._is_compressed:
            with _opened(self.path) as data:
                self._ends = _ends(self.path, data)
        else:
            known = before if is_same else before[:0]
            self._ends = np.concatenate([known, _line_ends(self.path, int(known[-1]) if len(known) else 0)])
        count = len(before)
        return not count or (is_same and len(self) >= count and self._ends[count - 1] == before[-1])

    def read(self, number: int) -> RolloutTree:
        """Returns a tree, without reading those before it.

        Args:
            number: 0 for the first; −1 for the last.

        Raises:
            IndexError: the file has fewer trees.
            ValueError: the tree is damaged.
        """
        number = range(len(self))[number]
        start, end = int(self._ends[number - 1]) if number else 0, int(self._ends[number])
        with _opened(self.path) as data:
            return RolloutTree.from_json(_line(data, start, end) if self._is_compressed else _text(data[start:end]))


def read_tree(path: Path, number: int) -> RolloutTree:
    """Returns one tree of a file; see `TreeFile`, which is faster for several."""
    return TreeFile(path).read(number)


def count_trees(path: Path) -> int:
    """Returns how many trees a file holds."""
    return len(TreeFile(path))


def keep_trees_before(path: Path, step: int) -> None:
    """Drops the trees from step `step` on, and one that a kill cut off: a resumed run writes them again.

    Args:
        path: of a compressed file; may be missing.
        step: the first step to drop, by the trees' own `meta["step"]`.
    """
    if not path.is_file():
        return
    with _opened(path) as data:
        ends = _ends(path, data)
        kept = len(ends)
        while kept and not _is_before(data, ends, kept - 1, step):
            kept -= 1
    _cut(path, ends[:kept])


def forget_trees_before(path: Path, step: int) -> None:
    """Removes the trees of the steps before `step`; the others are copied, so there must be room for them.

    Args:
        path: of a compressed file; may be missing.
        step: the first step to keep, by the trees' own `meta["step"]`.
    """
    if not path.is_file():
        return
    temporary = path.with_name(f".{path.name}.tmp")
    with _opened(path) as data:
        ends = _ends(path, data)
        gone = next((n for n in range(len(ends)) if not _is_before(data, ends, n, step)), len(ends))
        start = int(ends[gone - 1]) if gone else 0
        if not gone:
            return
        try:
            with temporary.open("wb") as file:
                for at in range(start, int(ends[-1]), _BLOCK):
                    file.write(data[at : min(at + _BLOCK, int(ends[-1]))])
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    _index(path).unlink(missing_ok=True)  # first, or a kill could leave it beside a file it does not belong to
    os.replace(temporary, path)
    _index(path).write_bytes((ends[gone:] - start).tobytes())
    sync(path.parent)


def compress_trees(path: Path, compressed: Path) -> None:
    """Replaces a file of plain lines, if there is one, by a compressed file; a last line cut off by a kill is left out."""
    if not path.is_file():
        return
    if not compressed.is_file():
        temporary = compressed.with_name(f".{compressed.stem}.tmp.zst")
        temporary.unlink(missing_ok=True)
        write_trees(temporary, read_trees(path))
        sync(temporary)
        os.replace(_index(temporary), _index(compressed))
        os.replace(temporary, compressed)
        sync(path.parent)
    path.unlink()


def _lines(path: Path) -> Iterator[str]:
    """Yields the whole lines of a file."""
    if not _is_compressed(path):
        with path.open(encoding="utf-8", newline="\n", errors="surrogateescape") as file:
            yield from (line for line in file if line.endswith("\n"))
        return
    with _opened(path) as data:
        yield from (line for line, _ in _walk(data, 0))


def _line_ends(path: Path, start: int) -> Ends:
    """Returns where the whole lines of a file end that begin at byte `start` or after it."""
    with path.open("rb") as file:
        file.seek(start)
        lengths = [len(line) for line in file if line.endswith(b"\n")]
    return start + np.cumsum(np.array(lengths, _END))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _is_compressed(path: Path) -> bool:
    if path.suffix == ".zst":
        return True
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


@contextmanager
def _opened(path: Path) -> Iterator[Data]:
    """Gives the bytes of a file, which are only read where they are used."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""  # an empty file cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _line(data: Data, start: int, end: int) -> str:
    zstandard = _zstandard()
    frame = zstandard.ZstdDecompressor().decompressobj()  # all at once, it would allocate whatever size a damaged frame claims
    try:
        line: bytes = frame.decompress(data[start:end])
    except zstandard.ZstdError as error:
        raise ValueError(f"The tree in bytes {start} to {end} is damaged: {error}.") from error
    if not frame.eof:
        raise ValueError(f"The tree in bytes {start} to {end} is damaged: its end is missing.")
    return line.decode()


def _is_before(data: Data, ends: Ends, number: int, step: int) -> bool:
    """Whether a tree belongs to a step before `step`; one that cannot be read does not."""
    try:
        line = _line(data, int(ends[number - 1]) if number else 0, int(ends[number]))
        return int(json.loads(line)["meta"].get("step", 0)) < step
    except ValueError:
        return False


def _index(path: Path) -> Path:
    return path.with_name(path.name + ".index")


def _ends(path: Path, data: Data) -> Ends:
    """Returns where the trees of a file end: as the index says, and where that ends or is wrong, as the file itself says."""
    known = _known(path, len(data))
    ends: list[int] = known[[0, -1]].tolist() if len(known) else []
    starts = [0, int(known[-2]) if len(known) > 1 else 0]
    if [_frame_end(data, start) for start in starts[: len(ends)]] != ends:
        known, ends = known[:0], []  # it belongs to another file
    return np.concatenate([known, np.array([end for _, end in _walk(data, ends[-1] if ends else 0)], _END)])


def _known(path: Path, size: int) -> Ends:
    """Returns what the index says, as far as it is possible in a file of that size."""
    try:
        raw = _index(path).read_bytes()
    except OSError:
        return np.empty(0, _END)
    ends = np.frombuffer(raw[: len(raw) // _END.itemsize * _END.itemsize], _END)
    possible = (np.diff(ends, prepend=0) > 0) & (ends <= size)
    return ends if possible.all() else ends[: int(np.argmin(possible))]


def _walk(data: Data, start: int) -> Iterator[tuple[str, int]]:
    """Yields the line and the end of each frame from `start` on, except a last one that a kill cut off.

    Raises:
        ValueError: there is damage before the last frame.
    """
    while (end := _frame_end(data, start)) is not None:
        try:
            line = _line(data, start, end)
        except ValueError:
            break
        yield line, end
        start = end
    if _has_frame(data, start + 1):
        raise ValueError(f"The file is damaged at byte {start}, but has whole trees after it.")


def _has_frame(data: Data, start: int) -> bool:
    """Whether a whole frame begins somewhere from `start` on."""
    while (start := data.find(_MAGIC, start)) != -1:
        with suppress(ValueError):
            if (end := _frame_end(data, start)) is not None and _line(data, start, end):
                return True
        start += 1
    return False


def _frame_end(data: Data, start: int) -> int | None:
    """Returns the end of the frame that begins at `start`, from the lengths of its blocks; None if it is not whole."""
    zstandard = _zstandard()
    head = data[start : start + _LONGEST_HEADER]
    try:
        at, has_checksum = start + zstandard.frame_header_size(head), zstandard.get_frame_parameters(head).has_checksum
    except zstandard.ZstdError:
        return None
    is_last = False
    while not is_last:
        block = int.from_bytes(data[at : at + 3], "little")
        if at + 3 > len(data):
            return None
        is_last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == _RUN_LENGTH else size)
    at += 4 if has_checksum else 0
    return at if at <= len(data) else None


def _mend(path: Path) -> None:
    """Removes a last tree that a kill cut off, and brings the index up to date with the file."""
    size = path.stat().st_size if path.is_file() else 0
    index = _index(path)
    if index.is_file() and index.stat().st_size % _END.itemsize == 0:
        with index.open("rb") as file:
            file.seek(max(0, index.stat().st_size - _END.itemsize))
            if int.from_bytes(file.read(), "little") == size:
                return
    if not size:
        index.write_bytes(b"")
        return
    with _opened(path) as data:
        ends = _ends(path, data)
    _cut(path, ends)


def _cut(path: Path, ends: Ends) -> None:
    """Cuts a file, and its index, after the last of some trees; in place, because a full disk has no room for a copy."""
    with path.open("r+b") as file:
        file.truncate(int(ends[-1]) if len(ends) else 0)
    sync(path)
    wanted, index = ends.tobytes(), _index(path)
    if index.is_file() and index.read_bytes().startswith(wanted):
        os.truncate(index, len(wanted))
    else:
        index.write_bytes(wanted)


def _zstandard() -> Any:
    """Returns the compression library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise ConfigError("Compressed trees need zstandard: pip install 'arpo-envs[train]'.") from error
    return zstandard
