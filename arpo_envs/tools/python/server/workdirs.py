"""Working directories: one per session, out of reach of every other session.

If the server has a mount namespace, each is a memory file system with its own limits on size and number of
files. Elsewhere it is a folder, and its size can only be queried. The folders above are not readable and
the names are random, so no session can find or list another's. If every session has a mount namespace
too, see `places`.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from secrets import token_hex

from .forking import FLAGS

CLOSED = 0o111
"""Mode of the folders above: they can be passed through, but neither listed nor written to."""
_OPENED = 0o311
_FULL = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""Why a folder, or a link in its place, cannot be removed at once."""
_MOST_ROUNDS = 100_000
"""Levels of folders that are removed; a process that keeps making new ones must not keep the remover busy forever."""


@dataclass(frozen=True)
class Usage:
    """What a working directory holds.

    Args:
        size: bytes.
        entries: files and folders.
    """

    size: int
    entries: int


@dataclass(frozen=True)
class Place:
    """A session's working directory.

    Args:
        path: where the session finds it.
        original: where the session finds its original's, until `finish`; None if it should copy nothing.
        top: a descriptor of it, if the path leads other processes elsewhere.
        device: the number of its file system, if it has its own.
    """

    path: str
    original: str | None = None
    top: int = -1
    device: int = -1


@dataclass(frozen=True)
class Trash:
    """Where folders go that are no longer used.

    Args:
        folder: in the same file system as those folders; see `make_trash`.
        wake: has its contents removed.
    """

    folder: str
    wake: Callable[[], None]


class WorkDirs:
    """The server's working directories, grouped by family: sessions that were cloned from one another.

    Args:
        root: a folder that exists and that only this server uses.
        mount: mounts a size-limited file system on a folder; None if that cannot be done.
        unmount: unmounts it again.
        trash: where removed folders go: moving one takes no time, whatever it contains.
        entries: files and folders that one may hold; more are not counted.
    """

    def __init__(
        self,
        root: str,
        mount: Callable[[str], None] | None,
        unmount: Callable[[str], None] | None,
        trash: Trash,
        entries: int,
    ) -> None:
        self.root = root
        self._mount, self._unmount = mount, unmount
        self._trash, self.entries = trash, entries

    fork_flags = FLAGS
    """How sessions fork."""

    @property
    def bounded(self) -> bool:
        """Whether the kernel bounds each directory's size."""
        return self._mount is not None

    def make_family(self) -> str:
        """Returns a new folder for the directories of one family."""
        return _make_below(self.root, CLOSED)

    def make_branch(self, folder: str) -> str:
        """Returns a new folder within a family's folder or a branch of it, for the directories of a clone and its clones."""
        return _make_below(folder, CLOSED)

    def make(self, folder: str, process: int, original: Place | None, *, copy: bool) -> Place:
        """Returns a new, empty working directory.

        Args:
            folder: the folder of a family, or of a branch of it.
            process: a pidfd of the session it is for.
            original: the working directory of the session it was forked from; None if it was not forked.
            copy: whether the session is going to copy that.

        Raises:
            OSError: there is no room, or the session is gone.
        """
        path = _make_below(folder, 0o700 if self._mount is None else 0)  # nobody should write below the mount
        if self._mount is not None:
            try:
                self._mount(path)
            except OSError:
                self._remove_folder(folder, path)
                raise
        device = os.stat(path).st_dev if self.bounded else -1
        return Place(path, original.path if original is not None and copy else None, device=device)

    def finish(self, process: int) -> None:
        """Does nothing: a session stays away from its original's files by itself."""

    def remove(self, place: Place) -> None:
        """Removes a working directory and its contents; one that is already gone is not an error."""
        path = place.path
        if self._unmount is not None:
            with contextlib.suppress(OSError):
                self._unmount(path)
        self._remove_folder(os.path.dirname(path), path)

    def remove_family(self, family: str) -> None:
        """Removes a family's folder, with everything that is still in it."""
        self._remove_folder(self.root, family)

    def usage(self, place: Place) -> Usage:
        """Returns what a directory holds; without a size-limited file system, files are counted until there are too many."""
        return taken(place.path) if self.bounded else counted(place.path, self.entries)

    def _remove_folder(self, parent: str, path: str) -> None:
        """Removes a folder at once if it is empty, or moves it to the trash; what resists goes with its parents."""
        with contextlib.suppress(OSError):
            try:
                self._take(path)
            except PermissionError:  # both are closed to users other than root
                os.close(_open_folder(path, None))
                with _opened(parent):
                    self._take(path)

    def _take(self, path: str) -> None:
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            os.rename(path, f"{self._trash.folder}/{token_hex(16)}")
            self._trash.wake()


def make_trash(root: str) -> str:
    """Returns a new folder for the trash of `WorkDirs` below the same root, which no session can find."""
    return _make_below(root, 0o700)


def _make_below(parent: str, mode: int) -> str:
    path = f"{parent}/{token_hex(16)}"
    try:
        os.mkdir(path, mode)
    except PermissionError:
        with _opened(parent):
            os.mkdir(path, mode)
    return path


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[None]:
    """Makes a closed folder writable for its owner, which sessions are as well; needed only by users other than root."""
    os.chmod(folder, _OPENED)
    try:
        yield
    finally:
        os.chmod(folder, CLOSED)


def remove_tree(path: str) -> None:
    """Removes a folder that a hostile process has filled, and may still be using.

    It never recurses, no path grows long, and no link is followed, wherever one turns up: everything is done
    by descriptors. Nested folders are moved up before they are emptied. What cannot be removed stays.
    """
    with contextlib.suppress(OSError):
        empty_folder(path)
        os.rmdir(path)


def empty_folder(path: str) -> None:
    """Removes what is in a folder, as `remove_tree` does.

    Raises:
        OSError: it is not a folder, or cannot be opened.
    """
    top = _open_folder(path, None)
    try:
        for _ in range(_MOST_ROUNDS):
            if not _empty(top, top):
                break
    finally:
        os.close(top)


def _open_folder(name: str, parent: int | None) -> int:
    """Returns a descriptor of a folder, which is made readable and writable for its owner."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(name, os.O_RDONLY | flags, dir_fd=parent)
    except PermissionError:
        closed = os.open(name, os.O_PATH | flags, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{closed}", 0o700)
            folder = os.open(f"/proc/self/fd/{closed}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.close(closed)
    with contextlib.suppress(OSError):
        os.fchmod(folder, 0o700)
    return folder


def _empty(folder: int, top: int) -> bool:
    """Removes what is in `folder`; folders in it are emptied if it is `top`, else moved there. Says if any was moved."""
    with os.scandir(folder) as listing:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    moved = False
    for name, is_folder in entries:
        with contextlib.suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif not _removed(name, folder):
                moved |= _empty_or_move(name, folder, top)
    return moved


def _removed(name: str, folder: int) -> bool:
    """Removes an empty folder."""
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True


def _empty_or_move(name: str, folder: int, top: int) -> bool:
    inner = _open_folder(name, folder)  # without write permission in a folder, it cannot be moved elsewhere either
    try:
        if folder == top:
            moved = _empty(inner, top)
            _removed(name, top)
            return moved
        os.rename(name, token_hex(8), src_dir_fd=folder, dst_dir_fd=top)
        return True
    finally:
        os.close(inner)


def taken(top: str | int) -> Usage:
    """Returns what a file system holds, nameless files included; nothing if it is gone.

    Args:
        top: a path or a descriptor.
    """
    with contextlib.suppress(OSError):
        system = os.statvfs(top)
        return Usage((system.f_blocks - system.f_bfree) * system.f_frsize, system.f_files - system.f_ffree - 1)
    return Usage(0, 0)


def counted(path: str, most: int) -> Usage:
    """Returns what a folder holds, stopping after `most` entries; what cannot be inspected counts as too many."""
    size = entries = 0
    folders = [path]
    while folders and entries <= most:
        try:
            with os.scandir(folders.pop()) as listing:
                for entry in listing:
                    entries += 1
                    with contextlib.suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                    if entries > most:
                        break
        except (FileNotFoundError, NotADirectoryError):
            pass  # it was removed meanwhile
        except OSError:  # closed, or so deep that no path leads there
            return Usage(size, most + 1)
    return Usage(size, entries)
