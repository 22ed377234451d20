"""Removes what is no longer used, in a separate process, so that the supervisor keeps answering meanwhile.

A session can leave so many files that removing them takes seconds.
"""

import contextlib
import os
from typing import NoReturn

from .child import die_with_parent
from .processes import close_all_but
from .workdirs import empty_folder

_NICE = 10
"""How much lower its priority is: sessions wait less for it than for one another, and what they leave is still removed."""
_MANY = 1 << 16


class Remover:
    """A child process that empties a folder whenever it is told to, and ends with this process.

    Args:
        folder: the folder; things are moved there while it works.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.pid, self._bell = self._start()

    def wake(self) -> None:
        """Has it look for something to remove soon; a process that has died is replaced."""
        try:
            self._ring()
        except BrokenPipeError:
            another = self._start()
            self.end()
            self.pid, self._bell = another
            self._ring()

    def end(self) -> None:
        """Has it finish its work and end, and waits for that."""
        os.close(self._bell)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has already been told often enough
            os.write(self._bell, b"1")

    def _start(self) -> tuple[int, int]:
        listening, bell = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(bell, False)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._obey(parent, listening)
        os.close(listening)
        return pid, bell

    def _obey(self, parent: int, listening: int) -> NoReturn:
        try:
            die_with_parent(parent)
            close_all_but({listening})
            os.nice(_NICE)
            while os.read(listening, _MANY):
                with contextlib.suppress(OSError):  # it may be possible next time
                    empty_folder(self._folder)
        finally:
            os._exit(0)
