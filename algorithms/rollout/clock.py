"""Two ways to let paths run: in an order that a logical clock fixes, or in no order at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

Order = tuple[int, ...]


class Clock(Protocol):
    """Its members are trees and their paths: they join, tick before anything that others could notice, and leave."""

    def join(self) -> None:
        """Announces a new member."""
        ...

    def leave(self) -> None:
        """Says that a member ended."""
        ...

    async def tick(self, order: Order) -> None:
        """Waits for the member's turn."""
        ...

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Leaves for as long as the block takes, so that nobody waits for it meanwhile."""
        self.leave()
        try:
            yield
        finally:
            self.join()


class FreeClock(Clock):
    """No path ever waits for another."""

    def join(self) -> None:
        """Nothing to do."""

    def leave(self) -> None:
        """Nothing to do."""

    async def tick(self, order: Order) -> None:
        """Returns at once."""


class LogicalClock(Clock):
    """A tick is over when every member has reached it; then all go on, in order of their keys.

    Between two ticks a path does one thing (decode, run a tool, decide), so that what a batch holds
    and who takes from the shared budget first is a function of the seed alone.
    """

    def __init__(self) -> None:
        self._live = 0
        self._waiting: list[tuple[Order, asyncio.Future[None]]] = []

    def join(self) -> None:
        """Announces a new member, for whom the others wait from now on."""
        self._live += 1

    def leave(self) -> None:
        """Says that a member ended; the others may have waited for it."""
        # not at once: whoever this end has woken (the last path wakes its tree) must be back before the others go on
        asyncio.get_running_loop().call_soon(self._forget)

    async def tick(self, order: Order) -> None:
        """Waits until every member ticks."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, turn))
        self._release_if_complete()
        await turn

    def _forget(self) -> None:
        self._live -= 1
        self._release_if_complete()

    def _release_if_complete(self) -> None:
        if self._waiting and len(self._waiting) >= self._live:
            ready, self._waiting = sorted(self._waiting, key=lambda pair: pair[0]), []
            # not at once: the path that ticked last is not waiting for its turn yet, and would run ahead of all others
            asyncio.get_running_loop().call_soon(_wake, [turn for _, turn in ready])


def _wake(turns: "list[asyncio.Future[None]]") -> None:
    for turn in turns:
        if not turn.done():
            turn.set_result(None)
