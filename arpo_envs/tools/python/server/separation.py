"""Whether a copy of a session is separate from its original, as the kernel sees it.

A copy runs its original's code, so what it says about itself proves nothing. Nothing that it holds may lead to what another
session has: no file, no mapping, no pipe, no opening that both use; and only the copy itself may hold its channel.
"""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .families import Process
from .isolation import kernel
from .mappings import file_mappings
from .open_files import HARMLESS
from .processes import ProcessTable
from .workdirs import Place

_KCMP_FILE = 0
_LOOKS, _MOMENT = 8, 0.0002
"""How often, and after how many seconds, the supervisor looks again before it does something else."""


class Busy(Exception):
    """A process ran meanwhile, so what was seen of it may be out of date."""


@dataclass(frozen=True)
class _File:
    """What a process has open."""

    number: int
    kind: os.stat_result
    path: str


class Separation:
    """Looks at sessions from outside.

    Args:
        table: the kernel's process table.
        root: the folder below which all working directories are.
        bounded: whether each of them is a separate file system.
    """

    def __init__(self, table: ProcessTable, root: str, *, bounded: bool) -> None:
        self._table, self._root, self._bounded = table, root, bounded

    def complaint(self, copy: Process, original: Process | None, *, files: bool) -> str | None:
        """Returns how a copy or its original could still reach what belongs to the other; None if neither can.

        Args:
            copy: the new session.
            original: the one it was forked from; None if that is gone.
            files: whether the original has files; without any, none of them can be in memory.

        Raises:
            Busy: one of them was not waiting all the time.
            OSError: one of them cannot be inspected.
        """
        both = (copy,) if original is None else (copy, original)
        try:
            before = self._rests(both)
            found = self._complaint(copy, original, files=files)
            after = [self._table.rest(each.pid) for each in both]
        except (FileNotFoundError, ProcessLookupError):  # something was closed, or one of them is dead
            raise Busy from None
        if before != after:
            raise Busy
        return found

    def _rests(self, both: Sequence[Process]) -> list[str | None]:
        """Returns what stays the same while these do nothing; after their last answers, gives them a moment to come to rest."""
        for _ in range(_LOOKS):
            rests = [self._table.rest(each.pid) for each in both]
            if None not in rests:
                return rests
            time.sleep(_MOMENT)
        raise Busy

    def _complaint(self, copy: Process, original: Process | None, *, files: bool) -> str | None:
        mine = list(self._files(copy.pid))
        for file in mine:
            if not self._is_harmless(file, copy):
                return f"it kept {_described(file)} of its original's"
        if files and self._has_foreign_mappings(copy):
            return "it kept a file of its original's in its memory"
        if original is None:
            return None
        for theirs in self._files(original.pid):
            if stat.S_ISSOCK(theirs.kind.st_mode) and theirs.kind.st_ino != original.channel:
                return "its original kept the channel of a copy"
            if self._is_foreign(theirs, original.place, None):
                return f"its original kept {_described(theirs)} of a copy's"
            if any(self._is_shared(file, copy.pid, theirs, original.pid) for file in mine):
                return f"it shares {_described(theirs)} with its original"
        return None

    def _files(self, pid: int) -> Iterator[_File]:
        """Yields what a process has open, with where it is."""
        for path in (*(f"fd/{number}" for number in self._table.open_files(pid)), "cwd"):
            yield _File(int(path[3:]) if path != "cwd" else -1, *self._table.target(f"{pid}/{path}"))

    def _is_harmless(self, file: _File, copy: Process) -> bool:
        mode = file.kind.st_mode
        if stat.S_ISSOCK(mode):
            return file.kind.st_ino == copy.channel
        if stat.S_ISCHR(mode):
            return file.kind.st_rdev in HARMLESS
        return (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)) and not self._is_foreign(
            file, copy.place, copy.inherited
        )

    def _is_foreign(self, file: _File, place: Place | None, inherited: Place | None) -> bool:
        """Whether a file or folder is in another session's working directory."""
        inside = file.path.startswith(f"{self._root}/")
        if not self._bounded:
            return inside and (place is None or not f"{file.path}/".startswith(f"{place.path}/"))
        device = file.kind.st_dev
        if inherited is not None and device == inherited.device:
            return True
        return inside and (place is None or device != place.device)

    def _has_foreign_mappings(self, copy: Process) -> bool:
        maps = self._table.maps(copy.pid)
        if not self._bounded:
            own = "" if copy.place is None else f"{copy.place.path[len(self._root) + 1 :]}/"
            return not all(own and mapping.name.startswith(own) for mapping in file_mappings(maps, self._root))
        inherited = copy.inherited
        if inherited is None:
            return False
        return f" {os.major(inherited.device):02x}:{os.minor(inherited.device):02x} " in maps

    @staticmethod
    def _is_shared(mine: _File, pid: int, theirs: _File, other: int) -> bool:
        """Whether two descriptors share one opening, with its position and flags; some kernels do not say."""
        if mine.number < 0 or theirs.number < 0 or not os.path.samestat(mine.kind, theirs.kind):
            return False
        with suppress(OSError):
            return kernel.call("kcmp", pid, other, _KCMP_FILE, mine.number, theirs.number) == 0
        return False


def _described(file: _File) -> str:
    if file.number < 0:
        return "the working directory"
    kinds = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(file.kind.st_mode), "an open file")
