"""Files that are written whole or not at all, and survive a power failure."""

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_END = 1 << 20


def write_text(file: Path, text: str) -> None:
    """Writes a file whole or not at all; the old one stays until the new one is complete.

    Args:
        file: where to write; its folder exists.
        text: written as UTF-8.

    Raises:
        OSError: there is no room, or no permission; nothing is left behind.
    """
    write_parts(file, [text])


def write_parts(file: Path, parts: Iterable[str]) -> None:
    """Writes a file whole or not at all, from texts that need not be in memory together; see `write_text`."""
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as written:
            written.writelines(parts)
            written.flush()
            os.fsync(written.fileno())
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(file.parent)


def sync(path: Path) -> None:
    """Flushes a file or a folder to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Flushes a folder and everything in it to the disk itself."""
    for inside in folder.rglob("*"):
        if not inside.is_symlink():
            sync(inside)
    sync(folder)


def checksums(folder: Path) -> dict[str, list[int]]:
    """Returns the size in bytes and the CRC-32 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, _crc(path)] for path in files}


def fingerprint(folder: Path) -> dict[str, list[int]]:
    """Returns what identifies a model's folder: sizes, and checksums of the beginnings and ends of its files."""
    files = sorted(path for kind in ("*.safetensors", "config.json", "tokenizer.json") for path in folder.glob(kind))
    return {path.name: [path.stat().st_size, _crc_of_ends(path)] for path in files}


def _crc_of_ends(file: Path) -> int:
    with file.open("rb") as opened:
        found = zlib.crc32(opened.read(_END))
        opened.seek(max(0, file.stat().st_size - _END))
        return zlib.crc32(opened.read(_END), found)


def _crc(file: Path) -> int:
    found = 0
    for block in _blocks(file):
        found = zlib.crc32(block, found)
    return found


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(1 << 22):
            yield block


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Raises what happened where `torch.distributed.checkpoint` wraps it: its own exception is not even an `Exception`.

    Raises:
        BaseException: what the first rank raised that failed: a full disk, a signal.
    """
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))
        raise cause from error
