"""What trees share that grow at the same time in one process, though they are collected in several calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from .environments import close_late
from .failures import Failures
from .threads import ToolThreads


class Neighbours:
    """Threads for tools, and the right to grow alone for a while.

    Args:
        threads: most tool calls at the same time.
        failures: reports and counts what cannot be closed that came too late.
    """

    def __init__(self, threads: int, failures: Failures) -> None:
        self.threads = ToolThreads(threads, partial(close_late, failures))
        self.lost_alone = 0
        """How many attempts in a row have lost their tool although nothing else grew."""
        self._growing = 0
        self._gate = asyncio.Lock()
        self._quiet = asyncio.Event()

    @asynccontextmanager
    async def beside_others(self) -> AsyncIterator[None]:
        """Waits as long as somebody is alone, or wants to be."""
        async with self._gate:
            self._growing += 1
        try:
            yield
        finally:
            self._growing -= 1
            self._quiet.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Waits until nothing grows, and keeps everything from beginning."""
        async with self._gate:
            while self._growing:
                self._quiet.clear()
                await self._quiet.wait()
            yield

    def close(self) -> None:
        """Lets the idle threads end."""
        self.threads.close()
