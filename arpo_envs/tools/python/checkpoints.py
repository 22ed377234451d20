"""Checkpoints that a session would like to keep, as long as nobody needs the room."""

from functools import partial

from .budget import Budget
from .client import ForkServer
from .process import Process


class Checkpoint:
    """A place for one process that waits, which the budget may empty at any time.

    Args:
        server: whose process it is.
        budget: what it counts for.
    """

    def __init__(self, server: ForkServer, budget: Budget) -> None:
        self._server, self._budget = server, budget
        self.process: Process | None = None
        """What was put in; it may be gone meanwhile."""

    def put(self, process: Process) -> None:
        """Puts a process into the empty place."""
        self.process = process
        self._budget.offer(process.pid, partial(self._server.remove, process))

    def take(self) -> Process | None:
        """Takes it out if it is still there; from now on only the taker ends it."""
        process, self.process = self.process, None
        return process if process is not None and self._budget.claim(process.pid) else None

    def drop(self) -> None:
        """Ends it if it is still there."""
        process = self.take()
        if process is not None:
            self._server.discard(process)

    def close(self) -> None:
        """Gives back what a fork of the host has of it, and ends nothing."""
        if self.process is not None:
            self.process.close()
