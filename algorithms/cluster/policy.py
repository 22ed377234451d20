"""The engines' stand-in where a policy is asked for: in the process of the trainer, which has no engine of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ..policies import Generation, Sampling, require_request
from .engines import Engine, Engines
from .launcher import Lost
from .worker import Drawing


class ClusterPolicy:
    """Stands for the engines of a run: new weights go to all of them, and a single request to one.

    Rollouts do not pass through it: `collector.collect_elsewhere` sends whole prompts to the engines.

    Args:
        engines: started by the first `load`, as every policy gets its weights before it is used.
    """

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.version = 0
        self.context_length, self.vocabulary_size = 0, 0
        """The engines' own, as soon as they are started."""
        self._asked: list[tuple[Drawing, asyncio.Future[Generation]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        """Has an engine continue `context`; see `Policy.generate`. Requests made at the same time reach it at the same time.

        Raises:
            ConfigError: see `require_request`.
            Lost: the engine was lost, as often as it was tried.
        """
        require_request(self, context, params)
        found: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        self._asked.append((Drawing(tuple(context), params, seed, offset, tail), found))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send())
        return await found

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Gives all engines new weights; see `Engines.load`."""
        self.context_length, self.vocabulary_size = await self.engines.load(weights, version)
        self.version = version

    async def forget(self) -> None:
        """Drops what the engines remember of contexts."""
        await self.engines.call_all("forget")

    async def sleep(self) -> None:
        """Makes room on the engines' devices."""
        await self.engines.call_all("sleep")

    async def close(self) -> None:
        """Ends the engines."""
        if self._sending is not None:
            self._sending.cancel()
        await self.engines.close()

    async def _send(self) -> None:
        await asyncio.sleep(0)  # whoever asks at the same time has asked by then
        while self._asked:
            asked, self._asked = self._asked, []
            try:
                drawn = await self._drawn([drawing for drawing, _ in asked])
            except Exception as error:  # noqa: BLE001  # whoever waits for it gets it
                drawn = [error] * len(asked)
            for (_, future), one in zip(asked, drawn, strict=True):
                if future.done():
                    continue
                if isinstance(one, Exception):
                    future.set_exception(one)
                else:
                    future.set_result(one)

    async def _drawn(self, drawings: Sequence[Drawing]) -> list[Generation | Exception]:
        """Has the first engine draw, so that what it remembers is the same as in one process."""
        engine: Engine = self.engines.all[0]
        fault: Exception = Lost("There is no engine.")
        for attempt in range(self.engines.patience.attempts):
            await self.engines.pause(attempt)
            try:
                if not engine.is_alive and (why := await self.engines.revive(engine)) is not None:
                    raise why
                drawn: list[Generation | Exception] = await self.engines.call(engine, "draw", drawings)
                return drawn
            except Lost as error:
                fault = error
        raise fault
