"""Checkpoints that a session would like to keep as long as the room is not needed."""

from functools import partial

from .budget import Budget
from .client import ForkServer
from .process import Process


class Checkpoint:
    """A place for one waiting process, which the budget may empty at any time.

    Args:
        server: whose process it is.
        budget: the budget it counts towards.
    """

    def __init__(self, server: ForkServer, budget: Budget) -> None:
        self._server, self._budget = server, budget
        self.process: Process | None = None
        """What was put in; it may be gone by now."""

    def put(self, process: Process) -> None:
        """Puts a process into the empty place."""
        self.process = process
        self._budget.offer(process.pid, partial(self._server.remove, process))

    def take(self) -> Process | None:
        """Takes it out if it is still there; from now on only the caller ends it."""
        process, self.process = self.process, None
        return process if process is not None and self._budget.claim(process.pid) else None

    def drop(self) -> None:
        """Ends it if it is still there."""
        process = self.take()
        if process is not None:
            self._server.discard(process)

    def close(self) -> None:
        """Frees what a fork of the host holds of it, and ends nothing."""
        if self.process is not None:
            self.process.close()
