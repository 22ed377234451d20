"""Copies a working directory: files, folders and links with their modes, times and order.

A session runs this after a model's code, so everything is bound at import to the functions of `os`.
"""

import errno
import os
import stat
from collections.abc import Collection, Sequence

_UNREACHABLE = (errno.EACCES, errno.ENAMETOOLONG, errno.ENOENT)
_PIECE = 1 << 18
_MODE = 0o1777
"""Bits of a mode that are copied; a session cannot make files with the others."""
_MOST_SKIPPED = 4096
"""File numbers that may be used up to reach a wanted one; each takes some microseconds."""

_scandir, _symlink, _readlink, _mkdir, _link = os.scandir, os.symlink, os.readlink, os.mkdir, os.link
_open, _read, _write, _close, _umask = os.open, os.read, os.write, os.close, os.umask
_listdir, _rmdir, _stat, _fstat = os.listdir, os.rmdir, os.stat, os.fstat
_lseek, _ftruncate, _utime = os.lseek, os.ftruncate, os.utime
_lexists, _rename, _unlink = os.path.lexists, os.rename, os.unlink


def copy_tree(source: str, target: str, numbered: Collection[int] = ()) -> None:
    """Copies files, folders and symbolic links, holes and hard links as such.

    Anything else, and what cannot be read or is so deep that no path leads there, is left out. Modes are set when a file
    is made, because a session cannot change them.

    Args:
        source: a folder.
        target: an empty folder.
        numbered: files by their numbers (`st_ino`), which the copies should have as well if possible: SQLite takes a file
            with another number for another file. This needs a file system that counts, and `hold_number`.

    Raises:
        OSError: there is no room, or something else that is not the source's fault.
    """
    umask = _umask(0)
    try:
        if numbered:
            aside = f"{target}/{_free_name(source)}"
            _mkdir(aside)
            ready = _copy_numbered(source, aside, numbered)
            _copy_folders(source, target, ready)
            for path in ready.values():
                _unlink(path)
            _rmdir(aside)
        else:
            _copy_folders(source, target, {})
    finally:
        _umask(umask)


def hold_number(folder: int) -> None:
    """Uses up the first number of a new file system: `copy_tree` uses it for a temporary folder.

    Args:
        folder: a descriptor of its top.
    """
    _mkdir("held", dir_fd=folder)
    _rmdir("held", dir_fd=folder)


def _free_name(folder: str) -> str:
    name = ".copying"
    while _lexists(f"{folder}/{name}"):
        name += "-"
    return name


def _copy_numbered(source: str, aside: str, numbered: Collection[int]) -> dict[int, str]:
    """Copies some files, by numbers, to a folder of the same file system; returns where they are.

    Numbers are given in ascending order, so this must come first.
    """
    ready, last, left = {}, _stat(aside).st_ino, _MOST_SKIPPED
    for number, path in sorted(_paths(source, numbered).items()):
        while left > 0 and last < number - 1:
            last, left = _next_number(aside), left - 1
        copied = f"{aside}/{number}"
        try:
            _copy_file(path, copied)
        except OSError as error:
            if error.errno not in _UNREACHABLE:
                raise
            continue
        ready[number], last = copied, _stat(copied).st_ino
    return ready


def _next_number(folder: str) -> int:
    """Uses up a number of the file system, and returns it."""
    file = _open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        return _fstat(file).st_ino
    finally:
        _close(file)


def _paths(folder: str, numbered: Collection[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    folders = [folder]
    while folders and len(found) < len(numbered):
        try:
            with _scandir(folders.pop()) as listing:
                for entry in listing:
                    if entry.inode() in numbered:
                        found[entry.inode()] = entry.path
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError as error:
            if error.errno not in _UNREACHABLE:
                raise
    return found


def _copy_folders(source: str, target: str, ready: dict[int, str]) -> None:
    newest_first = _lists_newest_first(target)
    folders = [(source, target)]
    copies: dict[int, str] = {}  # files with several names
    times: list[tuple[str, os.stat_result]] = []
    while folders:
        here, there = folders.pop()
        try:
            times.append((there, _stat(here)))
            with _scandir(here) as listing:
                entries = list(listing)
        except OSError as error:
            if error.errno not in _UNREACHABLE:
                raise
            continue
        folders += _copy_entries(entries[::-1] if newest_first else entries, there, copies, ready)
    for folder, found in reversed(times):  # what is made in a folder changes its times
        _utime(folder, ns=(found.st_atime_ns, found.st_mtime_ns))


def _lists_newest_first(folder: str) -> bool:
    """Whether this file system lists the newest first, as Linux's memory file system does; `folder` holds no such names."""
    names = ("1", "2")
    for name in names:
        _mkdir(f"{folder}/{name}")
    try:
        listed = _listdir(folder)
        return listed.index(names[1]) < listed.index(names[0])
    finally:
        for name in names:
            _rmdir(f"{folder}/{name}")


def _copy_entries(
    entries: "Sequence[os.DirEntry[str]]", there: str, copies: dict[int, str], ready: dict[int, str]
) -> list[tuple[str, str]]:
    """Copies a folder's entries, one after another, and returns the folders among them with their copies."""
    folders = []
    for entry in entries:
        copied = f"{there}/{entry.name}"
        try:
            if _copy_entry(entry, copied, copies, ready):
                folders.append((entry.path, copied))
        except OSError as error:
            if error.errno not in _UNREACHABLE:
                raise
    return folders


def _copy_entry(entry: "os.DirEntry[str]", copied: str, copies: dict[int, str], ready: dict[int, str]) -> bool:
    """Copies an entry unless it is a folder; returns whether it is one."""
    kind = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(kind.st_mode):
        _symlink(_readlink(entry.path), copied)
        _utime(copied, ns=(kind.st_atime_ns, kind.st_mtime_ns), follow_symlinks=False)
    elif stat.S_ISDIR(kind.st_mode):
        _mkdir(copied, kind.st_mode & _MODE)
        return True
    elif stat.S_ISREG(kind.st_mode):
        if kind.st_ino in copies:
            _link(copies[kind.st_ino], copied)
            return False
        if kind.st_ino in ready:
            _rename(ready.pop(kind.st_ino), copied)
        else:
            _copy_file(entry.path, copied)
        if kind.st_nlink > 1:
            copies[kind.st_ino] = copied
    return False


def _copy_file(source: str, target: str) -> None:
    reading = _open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = _fstat(reading)
        writing = _open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, found.st_mode & _MODE)
        try:
            _copy_data(reading, writing)
            _utime(writing, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            _close(writing)
    finally:
        _close(reading)


def _copy_data(reading: int, writing: int) -> None:
    size, end = _fstat(reading).st_size, 0
    _ftruncate(writing, size)
    while end < size:
        try:
            start = _lseek(reading, end, os.SEEK_DATA)
        except OSError:  # there is only a hole left
            return
        end = _lseek(reading, start, os.SEEK_HOLE)
        _lseek(reading, start, os.SEEK_SET)
        _lseek(writing, start, os.SEEK_SET)
        while start < end and (data := _read(reading, min(_PIECE, end - start))):
            start += len(data)
            rest = memoryview(data)
            while rest:
                rest = rest[_write(writing, rest) :]
