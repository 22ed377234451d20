"""The engines' stand-in where a policy is asked for: in the process of the trainer, which has no engine of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..policies import Generate, Generation, Sampling, require_request
from ..rollout import reason
from .engines import Engine, Engines
from .launcher import Lost
from .worker import Drawing


class ClusterPolicy:
    """Stands for the engines of a run: new weights go to all of them, and a single request to one.

    Rollouts do not pass through it: `collector.collect_elsewhere` sends whole prompts to the engines.

    Args:
        fleet: the engines, started by the first `load`, as every policy gets its weights before it is used.
    """

    def __init__(self, fleet: Engines) -> None:
        self.fleet = fleet
        self.version = 0
        self.context_length, self.vocabulary_size = 0, 0
        """The engines' own, as soon as they are started."""
        self.dtype: Any = None
        """See `policies.DTYPE`; the engines' own as well."""
        self._asked: dict[Engine | None, list[tuple[Drawing, asyncio.Future[Generation]]]] = {}
        self._sending: dict[Engine | None, asyncio.Task[None]] = {}

    async def generate(
        self,
        context: Sequence[int],
        params: Sampling,
        *,
        seed: int,
        offset: int = 0,
        tail: str = "",
        only: Engine | None = None,
    ) -> Generation:
        """Has an engine continue `context`; see `Policy.generate`. Requests made at the same time reach it at the same time.

        With `only` that engine is asked; otherwise the first one, or another one where that is lost.

        Raises:
            ConfigError: see `require_request`.
            Lost: the engine was lost, as often as it was tried; one that alone may be asked is tried once.
        """
        require_request(self, context, params)
        found: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(only, []).append((Drawing(tuple(context), params, seed, offset, tail), found))
        if only not in self._sending or self._sending[only].done():
            self._sending[only] = asyncio.ensure_future(self._send(only))
        return await found

    def engines(self) -> Mapping[str, Generate]:
        """Returns the engines that are alive; one that is made anew gets the newest weights before it is used."""
        return {f"place {one.number}": partial(self.generate, only=one) for one in self.fleet.all if one.is_alive}

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Gives all engines new weights; see `Engines.load`."""
        self.context_length, self.vocabulary_size, self.dtype = await self.fleet.load(weights, version)
        self.version = version

    async def forget(self) -> None:
        """Drops what the engines remember of contexts."""
        await self.fleet.call_all("forget")

    async def sleep(self) -> None:
        """Makes room on the engines' devices."""
        await self.fleet.call_all("sleep")

    async def close(self) -> None:
        """Ends the engines."""
        for sending in self._sending.values():
            sending.cancel()
        await self.fleet.close()

    async def _send(self, only: Engine | None) -> None:
        await asyncio.sleep(0)  # whoever asks at the same time has asked by then
        while asked := self._asked.pop(only, []):
            drawings = [drawing for drawing, _ in asked]
            try:
                drawn = await (self._drawn(drawings) if only is None else self._drawn_by(only, drawings))
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
        """Has the first engine draw that is alive: always the same one, so that it remembers what one process would."""
        fault: Exception = Lost("There is no engine.")
        for attempt in range(self.fleet.patience.attempts):
            await self.fleet.pause(attempt)
            engine = next((one for one in self.fleet.all if one.is_alive), self.fleet.all[0])
            try:
                if not engine.is_alive and (why := await self.fleet.revive(engine)) is not None:
                    raise Lost(f"It could not be started: {reason(why)}") from why
                return await self._drawn_by(engine, drawings)
            except Lost as error:
                fault = error
        raise fault

    async def _drawn_by(self, engine: Engine, drawings: Sequence[Drawing]) -> list[Generation | Exception]:
        if not engine.is_alive:
            raise Lost("It is not there.")
        drawn: list[Generation | Exception] = await self.fleet.call(engine, "draw", drawings)
        return drawn
