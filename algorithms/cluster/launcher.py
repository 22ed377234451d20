"""Where workers run: the one seam between what a cluster does and the machinery that it does it on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ..policies.served import ServerFault
from .worker import Answer, Equipment, Worker

MakeEquipment = Callable[[], Equipment]
"""Makes what a worker works with, in the worker itself; it is pickled, so it holds a description of the run, nothing live."""


class Answers(Protocol):
    """What is in a worker's process: a `Worker`, or a `rank.Rank`."""

    async def answer(self, method: str, *arguments: Any) -> Answer:
        """Does something; see `Worker.answer`."""
        ...


MakeWorker = Callable[[Any], Answers]
"""Makes what is in a worker's process, from what is sent there."""


class Lost(ServerFault):
    """The machinery failed, not the work: a process died, hangs or cannot be reached. The same work may succeed elsewhere."""


class Launcher(Protocol):
    """Starts, calls, watches and ends workers; nothing else knows in which process or on which machine they are.

    A worker is what `create` returns; it means something to its launcher only.
    """

    def create(self, make: Any, kind: MakeWorker = Worker) -> Any:
        """Returns a new worker, which need not be ready yet; see `worker.Worker`.

        Args:
            make: is sent to the worker's process; for a `Worker`, what makes its equipment.
            kind: makes there of it what answers.

        Raises:
            Lost: there is no place for it.
        """
        ...

    def call(self, worker: Any, method: str, *arguments: Any) -> Awaitable[Answer]:
        """Has a worker do something; see `Worker.answer`.

        Raises:
            Lost: its process is gone or unreachable.
        """
        ...

    async def health(self, worker: Any, within: float) -> bool:
        """Returns whether a worker that was called gives a sign of life within some seconds: whether it is slow, or stuck."""
        ...

    def kill(self, worker: Any) -> None:
        """Ends a worker at once, whatever it does; may be called again."""
        ...

    def publish(self, weights: Mapping[str, Any], version: int) -> Any:
        """Puts weights where workers find them, once for all; returns what `Worker.load` takes."""
        ...

    def withdraw(self, published: Any) -> None:
        """Removes weights that no worker will be asked to load any more."""
        ...

    async def close(self) -> None:
        """Ends all workers and removes what was left behind; a second call does nothing."""
        ...


async def watched(
    launcher: Launcher,
    worker: Any,
    method: str,
    *arguments: Any,
    look: float,
    silence: float,
    longest: float,
    tell: Callable[[float], None],
) -> Any:
    """Returns what a worker's method returns, unless the worker dies or falls silent before.

    Args:
        launcher: of the worker.
        worker: does it.
        method: of `Worker`.
        arguments: of the method.
        look: seconds after which one looks whether it is still alive, again and again.
        silence: seconds without a sign of life after which it counts as stuck.
        longest: seconds after which it counts as stuck, whatever signs it gives: what it waits for will not come.
        tell: called with the seconds that have passed whenever it is alive and has not finished.

    Raises:
        Lost: it died or is stuck; it is killed. It is also killed if the wait is cancelled, as it would work on.
        Exception: what the method raised.
    """
    call = asyncio.ensure_future(launcher.call(worker, method, *arguments))
    waited = 0.0
    try:
        while not (await asyncio.wait([call], timeout=look))[0]:
            if not await _lives(launcher, worker, silence, call):
                raise Lost(f"It gave no sign of life for {look + silence:g} seconds.")
            waited += look
            if waited >= longest and not call.done():
                raise Lost(f"It did not {method} within {longest:g} seconds.")
            if not call.done():
                tell(waited)
        answer = call.result()
    except BaseException as error:
        launcher.kill(worker)
        call.cancel()
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()  # retrieved, or asyncio would log it
        raise error
    if answer.error is not None:
        raise answer.error
    return answer.value


async def _lives(launcher: Launcher, worker: Any, silence: float, call: "asyncio.Future[Answer]") -> bool:
    """Returns whether a worker gives a sign of life or finishes its call: one that has finished gives no signs any more."""
    sign = asyncio.ensure_future(launcher.health(worker, silence))
    try:
        either: list[asyncio.Future[Any]] = [call, sign]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return call.done() or sign.result()
    finally:
        sign.cancel()
