"""The workers of a run: made, given weights, watched, and made anew where one is lost."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from arpo_envs import ArpoError, ConfigError

from ..policies.delivered import Delivered
from ..rollout import reason
from .launcher import Launcher, Lost, MakeEquipment, watched
from .worker import Described, Unfit

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long to wait for a worker, and how often to try.

    Args:
        start: seconds that a new worker has to be ready.
        look: seconds between two looks at a worker that works.
        silence: seconds without a sign of life after which it counts as stuck and is killed. One that is alive and has not
            finished is slow, and is waited for: the limits of time of its rollouts end what it does.
        request: seconds for anything but rollouts, such as taking weights, which has no such limits.
        slow: seconds after which a slow worker is reported, once.
        attempts: how often to make a worker anew, and how often to try a prompt.
        pause: seconds before the second attempt; twice as long before each further one.
        exchange: seconds that ranks of a learner wait for each other whenever they exchange something. Two that give signs of
            life may still not reach each other.
    """

    start: float = 600.0
    look: float = 5.0
    silence: float = 60.0
    request: float = 1800.0
    slow: float = 600.0
    attempts: int = 3
    pause: float = 1.0
    exchange: float = 600.0


class _Times(NamedTuple):
    """Of `watched`, seconds."""

    look: float
    silence: float
    longest: float


class Standing(NamedTuple):
    """How far a batch is: engines alive, of how many; prompts done, under way, waiting; and how many were asked again."""

    alive: int
    engines: int
    done: int
    under_way: int
    waiting: int
    retried: int


@dataclass(frozen=True)
class Listener:
    """Is told what happens to engines and ranks, in a line, and shown how things are whenever that changes.

    Args:
        tell: takes the line.
        show: takes how far a batch is.
        ranks: takes how many ranks of the learner are alive, and of how many; called in another thread.
    """

    tell: Callable[[str], None] = lambda line: None
    show: Callable[[Standing], None] = lambda standing: None
    ranks: Callable[[int, int], None] = lambda alive, count: None


class NoEngines(ArpoError):
    """No worker could be started."""


@dataclass(eq=False)
class Engine:
    """A place for a worker.

    Args:
        number: from 1 on.
        worker: what is in it; None if it was lost, or never started.
        is_ready: whether it has had weights.
    """

    number: int
    worker: Any = None
    is_ready: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether there is a worker."""
        return self.worker is not None


class Engines:
    """Workers that all have the same weights.

    Args:
        launcher: says where they run.
        make: makes what a worker works with, in the worker.
        count: how many there should be.
        patience: how long to wait for them.
        listener: is told of them.
    """

    def __init__(
        self,
        launcher: Launcher,
        make: MakeEquipment,
        count: int,
        patience: Patience = Patience(),
        listener: Listener = Listener(),
    ) -> None:
        self.all = [Engine(number) for number in range(1, count + 1)]
        self.patience, self.listener = patience, listener
        self.version = 0
        self.described: Described | None = None
        """What `Worker.prepare` returns; None before a worker has done so."""
        self.lost = 0
        """Workers lost so far that had been ready; others are attempts to make one."""
        self._launcher, self._make = launcher, make
        self._published: Any = None

    @property
    def alive(self) -> int:
        """How many workers there are."""
        return sum(engine.is_alive for engine in self.all)

    async def load(self, weights: Mapping[str, Any], version: int) -> Described:
        """Gives all workers new weights, and starts those that are missing; returns what `Worker.prepare` returns.

        Raises:
            ConfigError: the parts of the run do not fit together.
            NoEngines: no worker has ever been started. Later, rollouts fail where there is none, and the next step tries again.
        """
        before = self._published
        self._published = (
            weights if isinstance(weights, Delivered) else await asyncio.to_thread(self._launcher.publish, weights, version)
        )
        self.version = version
        try:
            faults = await together(map(self._renew, self.all))
        finally:
            if before is not None and not isinstance(before, Delivered):
                self._launcher.withdraw(before)
        if self.described is None:
            why = f" {reason(faults[0])}" if faults[0] is not None else ""
            raise NoEngines(f"None of {len(self.all)} engines could be started.{why}") from faults[0]
        return self.described

    async def call(self, engine: Engine, method: str, *arguments: Any) -> Any:
        """Returns what a worker's method returns; see `Worker`.

        Raises:
            Lost: the worker is lost, and its place is empty now.
            Exception: what the method raised.
        """
        longest = math.inf if method == "grow" else self.patience.request
        return await self._watched(engine, _Times(self.patience.look, self.patience.silence, longest), method, *arguments)

    async def call_all(self, method: str) -> None:
        """Calls a method of all workers; one that is lost on this occasion is made anew when it is needed."""
        await together(self._try(engine, method) for engine in self.all if engine.is_alive)

    async def revive(self, engine: Engine) -> Exception | None:
        """Makes a lost worker anew, with the current weights; returns why that did not succeed, None if it did."""
        fault: Exception | None = None
        for attempt in range(self.patience.attempts):
            await self.pause(attempt)
            try:
                await self._start(engine)
                return None
            except ConfigError:
                raise
            except Exception as error:  # noqa: BLE001  # a driver, a disk, a lack of memory: what fails now may work later
                self._lose(engine)
                fault = error
        self.listener.tell(f"engine {engine.number} could not be started: {reason(fault) if fault else ''}")
        return fault

    async def pause(self, attempt: int) -> None:
        """Waits before an attempt; not before the first, number 0."""
        if attempt:
            await asyncio.sleep(self.patience.pause * 2 ** (attempt - 1))

    async def close(self) -> None:
        """Ends all workers."""
        await self._launcher.close()
        for engine in self.all:
            engine.worker = None
        self._published = None

    async def _renew(self, engine: Engine) -> Exception | None:
        """Gives a worker the current weights, making it anew if need be; returns why that did not succeed."""
        if engine.is_alive:
            try:
                await self.call(engine, "load", self._published, self.version)
                return None
            except Lost as error:
                self.listener.tell(f"engine {engine.number} was lost: {error}")
            except Exception as error:  # noqa: BLE001  # half-loaded weights are never used
                self.listener.tell(f"engine {engine.number} took no weights: {reason(error)}")
                self._lose(engine)
        return await self.revive(engine)

    async def _start(self, engine: Engine) -> None:
        engine.worker = self._launcher.create(self._make)
        once = _Times(self.patience.start, 0.0, math.inf)  # nothing is seen of it while it imports and reads a model
        found = await self._watched(engine, once, "prepare")
        if self.described is not None and found != self.described:
            (length, known, dtype), (other, others, usual) = found, self.described
            raise ConfigError(
                f"Engine {engine.number} has contexts of up to {length} tokens, knows {known} and computes in {dtype}; the "
                f"others have {other}, know {others} and compute in {usual}. Give all machines the same model and versions."
            )
        self.described = found
        await self.call(engine, "load", self._published, self.version)
        engine.is_ready = True

    async def _try(self, engine: Engine, method: str) -> None:
        try:
            await self.call(engine, method)
        except Lost as error:
            self.listener.tell(f"engine {engine.number} was lost: {error}")
        except Exception as error:  # noqa: BLE001  # what its engine raises that has died
            self.listener.tell(f"engine {engine.number} was lost: it did not {method}: {reason(error)}")
            self._lose(engine)

    async def _watched(self, engine: Engine, times: _Times, method: str, *arguments: Any) -> Any:
        told: list[float] = []

        def tell(seconds: float) -> None:
            if seconds >= self.patience.slow and not told:
                told.append(seconds)
                self.listener.tell(f"engine {engine.number} is slow: {seconds:.0f} s so far")

        try:
            return await watched(self._launcher, engine.worker, method, *arguments, **times._asdict(), tell=tell)
        except (Lost, asyncio.CancelledError, Unfit) as error:
            self._lose(engine)
            if isinstance(error, Unfit):
                raise Lost(str(error)) from error
            raise

    def _lose(self, engine: Engine) -> None:
        if engine.worker is not None:
            self._launcher.kill(engine.worker)
            self.lost += engine.is_ready
            engine.worker, engine.is_ready = None, False


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Returns what several coroutines return; if one raises, the others are cancelled before that is raised here."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
