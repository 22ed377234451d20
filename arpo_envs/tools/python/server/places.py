"""Working directories at one path for all sessions: each is mounted where only its session sees it.

So any path that a session keeps leads a copy of the session to the copy's own files.
"""

import contextlib
import os
from dataclasses import dataclass
from typing import Protocol

from .copying import hold_number
from .forking import FLAGS_WITH_MOUNTS
from .isolation import OwnMounts
from .workdirs import Place, Usage, taken


class Places(Protocol):
    """Makes working directories; `WorkDirs` says what each method does."""

    @property
    def root(self) -> str:
        """The folder below which all of them are."""

    @property
    def entries(self) -> int:
        """Files and folders that one may hold."""

    @property
    def fork_flags(self) -> int:
        """How sessions fork."""

    @property
    def bounded(self) -> bool:
        """Whether the kernel bounds each directory's size."""

    def make_family(self) -> str:
        """Returns where a family's directories are."""

    def make_branch(self, folder: str) -> str:
        """Returns where those of a clone and its clones are."""

    def make(self, folder: str, process: int, original: Place | None, *, copy: bool) -> Place:
        """Returns a new one."""

    def finish(self, process: int) -> None:
        """The copy is done."""

    def remove(self, place: Place) -> None:
        """Removes one."""

    def remove_family(self, family: str) -> None:
        """Removes those of a family."""

    def usage(self, place: Place) -> Usage:
        """Returns what one holds."""


@dataclass(frozen=True)
class OwnPlaces:
    """Working directories that only one session sees.

    Args:
        root: the folder below which all of them are.
        mounts: what mounts them.
        entries: files and folders that one may hold.
    """

    root: str
    mounts: OwnMounts
    entries: int

    fork_flags = FLAGS_WITH_MOUNTS
    bounded = True

    def make_family(self) -> str:
        """Returns the one folder there is."""
        return self.root

    def make_branch(self, folder: str) -> str:
        """Returns the folder itself: a session sees no other's directory in it."""
        return folder

    def make(self, folder: str, process: int, original: Place | None, *, copy: bool) -> Place:
        """Returns a new, empty working directory; see `WorkDirs.make`.

        Raises:
            OSError: the session is gone, or the kernel refuses.
        """
        top = self.mounts.give(process, first=original is None, keep=copy)
        if not copy:
            hold_number(top)
        return Place(self.mounts.path, self.mounts.aside if copy else None, top, os.fstat(top).st_dev)

    def finish(self, process: int) -> None:
        """Hides the original's working directory from a session.

        Raises:
            OSError: the session is gone.
        """
        self.mounts.take_aside(process)

    def remove(self, place: Place) -> None:
        """Lets go of one: its content disappears with the last process that uses it."""
        with contextlib.suppress(OSError):
            os.close(place.top)

    def remove_family(self, family: str) -> None:
        """Does nothing: there is no folder."""

    def usage(self, place: Place) -> Usage:
        """Returns what one holds."""
        return taken(place.top)
