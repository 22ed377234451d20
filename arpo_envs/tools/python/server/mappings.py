"""Files that a session has mapped into its memory: a copy of it maps its own copies of them, at the same addresses.

The kernel copies mappings with a fork, and they keep showing the original's files. A session cannot see its own mappings:
the supervisor lists them. A session runs this after a model's code, so everything is bound at import.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_FIXED = 0x10
_PAGE = mmap.PAGESIZE
_PIECE = 1 << 20
_SAVED = ".mapped-{}"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_map, _protect, _bytes_at, _move, _errno = _libc.mmap, _libc.mprotect, ctypes.string_at, ctypes.memmove, ctypes.get_errno
_open, _close, _stat, _fstat, _pread, _pwrite, _unlink = os.open, os.close, os.stat, os.fstat, os.pread, os.pwrite, os.unlink


@dataclass(frozen=True)
class FileMapping:
    """A part of a session's memory that shows a file.

    Args:
        start: its address.
        length: in bytes.
        protection: what may be done there, as `mmap` expects it.
        shared: whether writes to the file are seen; a private mapping has copies of the pages that were written to.
        offset: in the file.
        number: the file's.
        name: the file's, below the working directory; followed by " (deleted)" if it no longer has one.
    """

    start: int
    length: int
    protection: int
    shared: bool
    offset: int
    number: int
    name: str


def file_mappings(maps: str, folder: str) -> list[FileMapping]:
    """Returns the mappings of files below a folder.

    Args:
        maps: the text of `/proc/PID/maps`.
        folder: a path without a slash at its end.

    >>> line = "7f00-9f00 r--s 00001000 00:2a 7    /mnt/sub/a.npy"
    >>> file_mappings(line, "/mnt")
    [FileMapping(start=32512, length=8192, protection=1, shared=True, offset=4096, number=7, name='sub/a.npy')]
    """
    if f" {folder}/" not in maps:
        return []
    found = []
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5].startswith(f"{folder}/"):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            protection = sum(bit for letter, bit in zip("rwx", (1, 2, 4), strict=True) if letter in fields[1])
            name = fields[5][len(folder) + 1 :].replace("\\012", "\n")
            shared = fields[1].endswith("s")
            found.append(FileMapping(start, end - start, protection, shared, int(fields[2], 16), int(fields[4]), name))
    return found


def map_copies(mappings: Sequence[FileMapping], original: str, copy: str, known: Mapping[int, str]) -> None:
    """Makes mappings show the copies of their files.

    Args:
        mappings: all those of this process that show the original's files.
        original: its working directory.
        copy: the copy of that directory.
        known: paths of copies, by the number of the original; files without a name may be among them.

    Raises:
        OSError: there is no room, or a copy cannot be read.
    """
    saved: set[str] = set()
    try:
        for mapping in sorted(mappings, key=lambda mapping: not mapping.shared):
            path = known.get(mapping.number) or _copy_of(mapping, original, copy)
            if path is None:
                path = f"{copy}/{_SAVED.format(mapping.number)}"
                saved.add(path)
                _save(mapping, path)
            _map_copy(mapping, path)
    finally:
        for path in saved:
            _unlink(path)


def _copy_of(mapping: FileMapping, original: str, copy: str) -> str | None:
    """Returns the path of a file's copy, if it has a name and could be copied."""
    with suppress(OSError):
        if _stat(f"{original}/{mapping.name}", follow_symlinks=False).st_ino == mapping.number:
            _stat(f"{copy}/{mapping.name}", follow_symlinks=False)
            return f"{copy}/{mapping.name}"
    return None


def _save(mapping: FileMapping, path: str) -> None:
    """Writes what a mapping shows to a file, as there is no other way to read it; what other mappings have written stays."""
    file = _open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for done in range(max(0, _fstat(file).st_size - mapping.offset), mapping.length, _PAGE):
            page = (ctypes.c_char * _PAGE).from_address(mapping.start + done)
            try:
                _pwrite(file, page, mapping.offset + done)
            except OSError as error:
                if error.errno != errno.EFAULT:
                    raise
                break  # the file has ended: reading further would get us killed
    finally:
        _close(file)


def _map_copy(mapping: FileMapping, path: str) -> None:
    file = _open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        changed = {} if mapping.shared else _changed(mapping, file)
        kind = mmap.MAP_SHARED if mapping.shared else mmap.MAP_PRIVATE
        protection = mapping.protection | (mmap.PROT_WRITE if changed else 0)
        if _map(mapping.start, mapping.length, protection, kind | _FIXED, file, mapping.offset) != mapping.start:
            raise OSError(_errno(), os.strerror(_errno()))
        for place, page in changed.items():
            _move(mapping.start + place, page, len(page))
        if protection != mapping.protection:
            _protect(mapping.start, mapping.length, mapping.protection)
    finally:
        _close(file)


def _changed(mapping: FileMapping, file: int) -> dict[int, bytes]:
    """Returns the pages of a private mapping that differ from the file, by their places."""
    if not mapping.protection & mmap.PROT_READ:
        return {}
    size = min(mapping.length, -(-_fstat(file).st_size // _PAGE) * _PAGE - mapping.offset)
    pages = {}
    for start in range(0, size, _PIECE):
        length = min(_PIECE, size - start)
        mine, theirs = (
            _bytes_at(mapping.start + start, length),
            _pread(file, length, mapping.offset + start).ljust(length, b"\0"),
        )
        if mine != theirs:
            for place in range(0, length, _PAGE):
                if mine[place : place + _PAGE] != theirs[place : place + _PAGE]:
                    pages[start + place] = mine[place : place + _PAGE]
    return pages


def as_message(mappings: Sequence[FileMapping]) -> list[list[Any]]:
    """Returns mappings as JSON values; `FileMapping(*row)` is the way back."""
    return [list(vars(mapping).values()) for mapping in mappings]
