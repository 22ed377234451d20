"""The open files of a copied session: each leads to a copy of the file, at the same place, and never to the original's."""

import fcntl
import os
import select
import stat
from collections.abc import Collection

MOST_FILES = 64
"""Descriptors that a session may have."""
_KEPT_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_PATH
_PIECE = 1 << 18

# bound at import, because a session runs this after a model's code
_open, _close, _dup2, _fstat, _lseek, _unlink = os.open, os.close, os.dup2, os.fstat, os.lseek, os.unlink
_pread, _write, _scandir, _fcntl = os.pread, os.write, os.scandir, fcntl.fcntl

_every_file = select.poll()
for _file in range(MOST_FILES):
    _every_file.register(_file, 0)

Identity = tuple[int, int]
"""Device and number of a file."""


def detach(kept: Collection[int], old: str, new: str | None) -> None:
    """Reopens all other descriptors in the copy of a working directory.

    What is shared would also share the place up to which it was read. Where there is no copy (a pipe, a file
    elsewhere), the descriptor becomes useless but for closing it. It stays taken, so that a file object of the
    original's never means another file of the copy's. Devices are left alone.

    Args:
        kept: descriptors that are the session's own business.
        old: the working directory that was copied.
        new: the copy; None if there is none.
    """
    found = {file: kind for file in _open_files() if file not in kept and (kind := _kind(file))}
    if not found:
        return
    nothing = _open("/dev/null", os.O_PATH | os.O_CLOEXEC)
    names = _names(old, {_identity(kind) for kind in found.values()}) if new is not None else {}
    for file, kind in found.items():
        copy = None
        if new is not None:
            copy = _reopened(file, kind, f"{new}/{names[_identity(kind)]}" if _identity(kind) in names else None, new)
        _dup2(nothing if copy is None else copy, file, False)
        if copy is not None:
            _close(copy)
    _close(nothing)


def _open_files() -> list[int]:
    """Returns all descriptors, by one system call."""
    closed = {file for file, event in _every_file.poll(0) if event & select.POLLNVAL}
    return [file for file in range(MOST_FILES) if file not in closed]


def _kind(file: int) -> os.stat_result | None:
    try:
        kind = _fstat(file)
    except OSError:
        return None
    return None if stat.S_ISCHR(kind.st_mode) else kind


def _identity(kind: os.stat_result) -> Identity:
    return kind.st_dev, kind.st_ino


def _names(folder: str, wanted: set[Identity]) -> dict[Identity, str]:
    """Returns the names of files and folders below a folder; those that no path leads to have none."""
    names: dict[Identity, str] = {_identity(os.stat(folder)): "."}
    folders = [""]
    while folders and not names.keys() >= wanted:
        inside = folders.pop()
        try:
            with _scandir(f"{folder}/{inside}") as listing:
                for entry in listing:
                    kind = entry.stat(follow_symlinks=False)
                    if _identity(kind) in wanted:
                        names[_identity(kind)] = f"{inside}{entry.name}"
                    if stat.S_ISDIR(kind.st_mode):
                        folders.append(f"{inside}{entry.name}/")
        except OSError:
            continue
    return names


def _reopened(file: int, kind: os.stat_result, path: str | None, folder: str) -> int | None:
    """Returns a descriptor of the copy of an open file, None if there is none."""
    try:
        flags = _fcntl(file, fcntl.F_GETFL) & _KEPT_FLAGS
        if path is not None and (stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode)):
            copy = _open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        elif stat.S_ISREG(kind.st_mode) and kind.st_nlink == 0:
            copy = _copied(file, kind.st_size, f"{folder}/.deleted-{file}", flags)
        else:
            return None
        if stat.S_ISREG(kind.st_mode) and not flags & os.O_PATH:
            _lseek(copy, _lseek(file, 0, os.SEEK_CUR), os.SEEK_SET)
    except OSError:
        return None
    return copy


def _copied(file: int, size: int, path: str, flags: int) -> int:
    """Returns a descriptor of a copy, which has no name either; the original's place is not moved."""
    copy = _open(path, (flags & ~os.O_ACCMODE) | os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _unlink(path)
    done = 0
    try:
        while done < size and (data := _pread(file, min(_PIECE, size - done), done)):
            rest = memoryview(data)
            while rest:
                rest = rest[_write(copy, rest) :]
            done += len(data)
    except OSError:
        _close(copy)
        raise
    return copy
