"""Files that are whole or not there, and still there after the power failed."""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

_END = 1 << 20


def write_text(file: Path, text: str) -> None:
    """Writes a file whole or not at all; what was there before stays until then.

    Args:
        file: where to; its folder exists.
        text: in UTF-8.

    Raises:
        OSError: there is no room, or no permission; nothing is left behind.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        os.replace(temporary, file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(file.parent)


def sync(path: Path) -> None:
    """Has a file or a folder written to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Has a folder and everything in it written to the disk itself."""
    for inside in folder.rglob("*"):
        if not inside.is_symlink():
            sync(inside)
    sync(folder)


def checksums(folder: Path) -> dict[str, list[int]]:
    """Returns for every file below a folder its size in bytes and its CRC-32."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, _crc(path)] for path in files}


def fingerprint(folder: Path) -> dict[str, list[int]]:
    """Returns by what a model's folder is known again: sizes, and sums of the beginnings and ends of its files."""
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
