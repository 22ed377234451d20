"""What the supervisor must know about processes: the kernel is asked, never a session."""

import contextlib
import errno
import math
import os
import signal
import stat
from collections.abc import Collection

from .mappings import FileMapping, file_mappings

_DELETED = " (deleted)"
_WAITING = ("S", "T", "t")
"""States of a process that does nothing: asleep or stopped."""
_MOST_MAPS = 1 << 20
"""Bytes that are read of a list of mappings: about ten thousand lines; an honest session has a few hundred."""


class ProcessTable:
    """Reads a `/proc`.

    Args:
        folder: a descriptor of the proc file system of this process's own process namespace, or None for the usual place.
    """

    def __init__(self, folder: int | None = None) -> None:
        self.folder = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if folder is None else folder

    def parent(self, pid: int) -> int | None:
        """Returns the parent of a process, None when it is gone or dead."""
        try:
            state, parent = self._record(f"{pid}/stat").rpartition(")")[2].split()[:2]
            return None if state in "ZX" else int(parent)
        except (OSError, ValueError):
            return None

    def children(self, pid: int) -> list[int]:
        """Returns the living children of a single-threaded process."""
        try:
            candidates = [int(child) for child in self._read(f"{pid}/task/{pid}/children").split()]
        except OSError:  # a kernel without that file, or the process is gone
            candidates = self._all()
        return [child for child in candidates if self.parent(child) == pid]

    def nameless(self, pid: int) -> dict[int, int]:
        """Returns the nameless files that a process has open: the bytes that each takes, by its number."""
        found = {}
        with contextlib.suppress(OSError):  # it is gone
            for file in self._listed(f"{pid}/fd"):
                with contextlib.suppress(OSError):  # it was closed
                    kind = os.stat(f"{pid}/fd/{file}", dir_fd=self.folder)
                    if stat.S_ISREG(kind.st_mode) and not kind.st_nlink:
                        found[kind.st_ino] = kind.st_blocks * 512
        return found

    def nameless_mapped(self, pid: int, below: str) -> set[int]:
        """Returns the numbers of the files that a process has mapped and whose names below a folder are gone.

        Their lengths cannot be seen.
        """
        try:
            maps = self._read(f"{pid}/maps")
        except OSError:
            return set()
        if _DELETED not in maps:
            return set()
        lines = (line.split(None, 5) for line in maps.splitlines() if line.endswith(_DELETED))
        return {int(line[4]) for line in lines if line[5].startswith(f"{below}/")}

    def mapped(self, pid: int, folder: str) -> list[FileMapping]:
        """Returns the mappings that a process has of files below a folder; see `maps`."""
        return file_mappings(self.maps(pid), folder)

    def maps(self, pid: int) -> str:
        """Returns what a process has mapped, as the kernel prints it.

        Raises:
            OSError: it is gone, or has mapped so much that reading it would keep everyone waiting.
        """
        return self._read(f"{pid}/maps", _MOST_MAPS)

    def rest(self, pid: int) -> str | None:
        """Returns what stays the same as long as a process does nothing but wait; None if it does not wait.

        Raises:
            OSError: it is gone.
        """
        status = self._record(f"{pid}/status")
        state = status.partition("\nState:\t")[2][:1]
        return status.partition("voluntary_ctxt_switches:")[2] if state in _WAITING else None

    def open_files(self, pid: int) -> list[int]:
        """Returns the numbers of the descriptors of a process.

        Raises:
            OSError: it is gone, or cannot be looked at.
        """
        return [int(number) for number in self._listed(f"{pid}/fd")]

    def target(self, path: str) -> tuple[os.stat_result, str]:
        """Returns what a magic link of `/proc` leads to, and where that is.

        Raises:
            OSError: the process is gone, or has closed it.
        """
        return os.stat(path, dir_fd=self.folder), os.readlink(path, dir_fd=self.folder)

    def _all(self) -> list[int]:
        return [int(name) for name in self._listed(".") if name.isdigit()]

    def _listed(self, path: str) -> list[str]:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            return os.listdir(folder)
        finally:
            os.close(folder)

    def _record(self, path: str) -> str:
        """Returns a file that the kernel prints as one record, which one read returns whole."""
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            return os.read(file, 1 << 16).decode("utf-8", "surrogateescape")
        finally:
            os.close(file)

    def _read(self, path: str, most: float = math.inf) -> str:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            text = b""
            while piece := os.read(file, 1 << 16):
                text += piece
                if len(text) > most:
                    raise OSError(errno.E2BIG, "the interpreter has mapped too many pieces of memory")
            return text.decode("utf-8", "surrogateescape")
        finally:
            os.close(file)


def kill_by(pidfd: int) -> None:
    """Kills the process behind a pidfd, if it still lives."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def close_all_but(kept: Collection[int]) -> None:
    """Closes every descriptor of this process except those."""
    above = 1 + max(kept)
    for file in range(above):
        if file not in kept:
            with contextlib.suppress(OSError):
                os.close(file)
    os.closerange(above, 1 << 16)
