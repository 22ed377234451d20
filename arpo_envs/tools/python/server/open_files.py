"""The open files of a copied session: each leads to a copy of the file, at the same position, and never to the original's.

What the kernel knows about an opening (the position, the flags) is shared by all that inherit its descriptors. So a copy
reopens everything, including devices, which would otherwise carry messages.
"""

import ctypes
import fcntl
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .mappings import FileMapping, map_copies

MOST_FILES = 64
"""Descriptors that a cell may have."""
RESERVED_FILES = 16
"""Descriptors beyond those, for what a session does between two cells: it must be able to obey and copy itself."""
_KEPT_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_PATH
_PIECE = 1 << 18
_NO_NAME = ".deleted-{}"

# bound at import, because a session runs this after a model's code
_open, _close, _dup2, _fstat, _lseek, _unlink = os.open, os.close, os.dup2, os.fstat, os.lseek, os.unlink
_pread, _write, _scandir, _fcntl = os.pread, os.write, os.scandir, fcntl.fcntl
_stat, _samestat = os.stat, os.path.samestat
_fcntl_unraised = ctypes.PyDLL(None).fcntl  # returns -1; eighty exceptions would take twice as long

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
HARMLESS = {os.stat(path).st_rdev: path for path in _DEVICES if os.path.exists(path)}
"""The devices that a session may have open, by their numbers."""

Identity = tuple[int, int]
"""Device and number of a file."""


@dataclass(frozen=True)
class Opening:
    """Descriptors that are duplicates of one another: they share a position and flags.

    Args:
        files: the descriptors.
        kind: what they lead to.
        flags: how it was opened.
    """

    files: Sequence[int]
    kind: os.stat_result
    flags: int

    @property
    def identity(self) -> Identity:
        """Which file it is."""
        return self.kind.st_dev, self.kind.st_ino

    @property
    def is_deleted(self) -> bool:
        """Whether it is a file without a name."""
        return stat.S_ISREG(self.kind.st_mode) and self.kind.st_nlink == 0


def quiet() -> None:
    """Leads the standard streams nowhere, through this process's own opening."""
    null = _open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        _dup2(null, standard)
    _close(null)


def openings(kept: Collection[int]) -> list[Opening]:
    """Returns what this process has open; call it in the original, because duplicates are found by changing a flag.

    Args:
        kept: descriptors that the session itself needs.
    """
    left: dict[int, os.stat_result] = {}
    for file in _open_files():
        if file not in kept:
            with suppress(OSError):
                left[file] = _fstat(file)
    found = []
    while left:
        first, kind = next(iter(left.items()))
        flags = _fcntl(first, fcntl.F_GETFL)
        others = [file for file, other in left.items() if file != first and _samestat(kind, other)]
        files = [first, *_duplicates(first, flags, others)]
        for file in files:
            del left[file]
        found.append(Opening(files, kind, flags))
    return found


def _open_files() -> list[int]:
    """Returns all descriptors; `poll` would be faster, but overlook those opened with O_PATH."""
    return [file for file in range(MOST_FILES + RESERVED_FILES) if _fcntl_unraised(file, fcntl.F_GETFD) != -1]


def _duplicates(first: int, flags: int, others: Sequence[int]) -> list[int]:
    """Returns those of the others that change with the first; the call that would simply say so is not allowed."""
    others = [file for file in others if _fcntl(file, fcntl.F_GETFL) == flags]
    if not others or flags & os.O_PATH:
        return []
    _fcntl(first, fcntl.F_SETFL, flags ^ os.O_NONBLOCK)
    try:
        return [file for file in others if _fcntl(file, fcntl.F_GETFL) != flags]
    finally:
        _fcntl(first, fcntl.F_SETFL, flags)


def detach(found: Sequence[Opening], old: str, new: str | None, mappings: Sequence[FileMapping] = ()) -> None:
    """Reopens and remaps everything: in the copy of a working directory, or the same device.

    If there is no copy (a pipe, a file elsewhere), the descriptor can only be closed. It stays taken, so that a file object
    of the original's never refers to another file of the copy's.

    Args:
        found: what the original had open.
        old: the working directory that was copied.
        new: the copy; None if there is none.
        mappings: those of files in the working directory.
    """
    copied = [opening for opening in found if not stat.S_ISCHR(opening.kind.st_mode)]
    with _named(copied, old, new) as paths:
        for opening in found:
            path = paths.get(opening.identity, HARMLESS.get(opening.kind.st_rdev))
            copy = _reopened(opening, path)
            for file in opening.files:
                _dup2(copy, file, False)
            _close(copy)
        if new is not None and mappings:
            map_copies(mappings, old, new, {number: path for (_, number), path in paths.items()})


@contextmanager
def _named(found: Sequence[Opening], old: str, new: str | None) -> Iterator[Mapping[Identity, str]]:
    """Gives the paths of the copies of open files and folders; those without a name get a temporary one."""
    if new is None or not found:
        yield {}
        return
    paths = {identity: f"{new}/{name}" for identity, name in _names(old, {opening.identity for opening in found}).items()}
    revived = []
    for opening in found:
        if opening.is_deleted and opening.identity not in paths:
            path = f"{new}/{_NO_NAME.format(opening.files[0])}"
            with suppress(OSError):
                _copy(opening.files[0], opening.kind.st_size, path)
                revived.append(path)
                paths[opening.identity] = path
    try:
        yield paths
    finally:
        for path in revived:
            _unlink(path)


def _names(folder: str, wanted: set[Identity]) -> dict[Identity, str]:
    """Returns the names of files and folders below a folder; those that no path leads to have none."""
    top = _stat(folder)
    names: dict[Identity, str] = {(top.st_dev, top.st_ino): "."}
    folders = [""]
    while folders and not names.keys() >= wanted:
        inside = folders.pop()
        try:
            with _scandir(f"{folder}/{inside}") as listing:
                for entry in listing:
                    kind = entry.stat(follow_symlinks=False)
                    if (kind.st_dev, kind.st_ino) in wanted:
                        names[kind.st_dev, kind.st_ino] = f"{inside}{entry.name}"
                    if stat.S_ISDIR(kind.st_mode):
                        folders.append(f"{inside}{entry.name}/")
        except OSError:
            continue
    return names


def _reopened(opening: Opening, path: str | None) -> int:
    """Returns a new descriptor of what a path leads to, at the same position; a useless one if it cannot be opened."""
    if path is not None:
        with suppress(OSError):
            copy = _open(path, opening.flags & _KEPT_FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC)
            if not stat.S_ISCHR(opening.kind.st_mode) and not opening.flags & os.O_PATH:  # listing a folder has one, too
                _lseek(copy, _lseek(opening.files[0], 0, os.SEEK_CUR), os.SEEK_SET)
            return copy
    return _open("/dev/null", os.O_PATH | os.O_CLOEXEC)


def _copy(file: int, size: int, path: str) -> None:
    """Copies what a descriptor leads to; the original's position does not change."""
    copy = _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    done = 0
    try:
        while done < size and (data := _pread(file, min(_PIECE, size - done), done)):
            rest = memoryview(data)
            while rest:
                rest = rest[_write(copy, rest) :]
            done += len(data)
    except OSError:
        _unlink(path)
        raise
    finally:
        _close(copy)
