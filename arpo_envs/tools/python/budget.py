"""What one environment may use altogether: processes and memory, over a session and everything cloned from it."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CLONE = 2 << 20
"""Bytes a clone takes at once: page tables, and the pages it writes on before it runs anything."""
_SLACK = 64
"""Memory is measured again when this fraction of the cap (one 64th) may have been taken since the last time."""


class Budget:
    """The caps of one environment, and how much of each is used.

    Memory is the kernel's proportional set size (shared pages count once) plus the files of all working
    directories. Measuring it takes a millisecond per process, so it is done only when what may have been taken
    since the last time reaches the cap.

    Checkpoints that wait for a cell are spare: they are given up as soon as the room is needed.

    Args:
        processes: live sessions, clones and checkpoints.
        memory: bytes for all of them together.
    """

    def __init__(self, processes: int, memory: int) -> None:
        self.processes, self.memory = processes, memory
        self._files: dict[int, int] = {}  # bytes, by process
        self._measured = self._since = 0
        self._fewer = False  # processes than when it was measured
        self._spares: dict[int, Callable[[], None]] = {}  # what ends each, by process, the oldest first
        self._places = 0  # kept for spares that are being made
        self._lock = threading.Condition()

    def enter(self, pid: int) -> None:
        """Counts a process that was just made.

        Args:
            pid: as the host sees it.
        """
        with self._lock:
            self._files[pid] = 0
            self._since += _CLONE

    def leave(self, pid: int) -> None:
        """Stops counting a process."""
        with self._lock:
            self._files.pop(pid, None)
            self._fewer = True
            if not self._files:
                self._measured = self._since = 0
            self._lock.notify_all()

    def keep_place(self) -> bool:
        """Reserves a place for a spare that is about to be made, until `give_place`; False if there is none."""
        with self._lock:
            if len(self._files) + self._places >= self.processes:
                return False
            self._places += 1
            return True

    def give_place(self) -> None:
        """Gives back a reserved place."""
        with self._lock:
            self._places -= 1
            self._lock.notify_all()

    def offer(self, pid: int, end: Callable[[], None]) -> None:
        """Records that a process is spare, until `claim`.

        Args:
            pid: as the host sees it.
            end: ends the process, and frees what this process holds of it; called at most once, by any thread.
        """
        with self._lock:
            self._spares[pid] = end
            self._lock.notify_all()

    def claim(self, pid: int) -> bool:
        """Whether a spare process is still there; from now on it is needed."""
        with self._lock:
            return self._spares.pop(pid, None) is not None

    def grew(self, pid: int, memory: int, files: int | None = None) -> None:
        """Records what a process may have taken.

        Args:
            pid: as the host sees it.
            memory: bytes, an upper bound.
            files: bytes of its files, when known.
        """
        with self._lock:
            self._since += memory
            if files is not None and pid in self._files:
                self._files[pid] = files

    def ran(self, pid: int) -> None:
        """Records what a process has taken since it was last copied; the copy must still live, so that they share the rest.

        Page faults would not tell: one of them may bring in two mebibytes.
        """
        taken = anonymous_size(pid)
        if taken > self.memory // _SLACK:
            taken = private_size(pid)
        self.grew(pid, taken)

    def room(self, copying: int | None = None) -> str | None:
        """Makes room by giving up spares, if necessary; returns which cap is still reached, or None.

        Args:
            copying: a process to be copied, with its files; None if there is none.
        """
        while True:
            with self._lock:
                complaint = self.complaint(copying)
                if complaint is None or not (self._spares or self._places):
                    return complaint
                if not self._spares:  # there will be one soon, or one place fewer is kept
                    self._lock.wait()
                    continue
                end = self._spares.pop(next(iter(self._spares)))
            end()

    def complaint(self, copying: int | None = None) -> str | None:
        """Returns which cap is reached, as a sentence, or None.

        Args:
            copying: a process to be copied, with its files; None if there is none.
        """
        with self._lock:
            if copying is not None and len(self._files) + self._places >= self.processes:
                return f"all {self.processes} interpreters that this environment may have at a time are in use"
            files = sum(self._files.values()) + (self._files.get(copying, 0) if copying is not None else 0)
            changed = self._fewer or self._since > self.memory // _SLACK
            if changed and self._measured + self._since + files > self.memory:
                self._measured, self._since = sum(proportional_size(pid) for pid in self._files), 0
                self._fewer = False
            if self._measured + files <= self.memory:
                return None
        return f"the interpreters of this environment may use {self.memory >> 20} MB together, and that is used up"


def anonymous_size(pid: int) -> int:
    """Returns the bytes of a process that are in memory and belong to no file; 0 when it is gone."""
    for line in _lines(f"/proc/{pid}/statm"):
        resident, of_files = line.split()[1:3]
        return (int(resident) - int(of_files)) * _PAGE
    return 0


def private_size(pid: int) -> int:
    """Returns the bytes in memory that a process shares with no other; 0 when it is gone."""
    return sum(int(line.split()[1]) for line in _lines(f"/proc/{pid}/smaps_rollup") if line.startswith("Private_")) << 10


def proportional_size(pid: int) -> int:
    """Returns the memory of a process in bytes, shared pages divided among those that share them; 0 when it is gone."""
    return sum(int(line.split()[1]) for line in _lines(f"/proc/{pid}/smaps_rollup") if line.startswith("Pss:")) << 10


def _lines(path: str) -> Iterator[str]:
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
        yield from file
