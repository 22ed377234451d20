"""Sends a request to a replica, and to another one when that fails: a lost server costs time, not the request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import anyio  # comes with httpx
import numpy as np

from arpo_envs import ArpoError, wait_before_retry

from ..seeds import generator
from .replicas import Replica, Replicas, choose
from .served import ServerFault
from .wire import Busy

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0
"""Seconds before a request is retried on the replica where it failed: doubled with each try."""
_LONGEST_REQUESTED_WAIT = 60.0
_QUIET_SECONDS = 2.0
"""Without an answer for so long, a replica may have been started anew unnoticed; no server starts faster."""


class Lost(ServerFault):
    """A server cannot be reached, or hangs."""


def wait_before(attempt: int, rng: np.random.Generator | None = None) -> float:
    """Returns how long to wait before trying again, in seconds.

    Args:
        attempt: number of the try, from 1.
        rng: shortens it to no less than half; None leaves it.

    >>> [wait_before(attempt) for attempt in (1, 2, 3, 9)]
    [0.25, 0.5, 1.0, 8.0]
    """
    return wait_before_retry(attempt - 1, first=_FIRST_WAIT, longest=_LONGEST_WAIT, rng=rng)


class Dispatcher:
    """Finds a replica for each request.

    Args:
        replicas: where requests may go.
        examine: checks a replica that failed and brings it up to date; raises an `ArpoError` if it is not healthy.
        recognise: raises `Lost` if a replica that was quiet is another process than before.
        attempts: how often a request is tried before it fails.
        timeout: seconds for one try.
    """

    def __init__(
        self,
        replicas: Replicas,
        examine: Callable[[Replica], Awaitable[None]],
        recognise: Callable[[Replica], Awaitable[None]],
        *,
        attempts: int,
        timeout: float,
    ) -> None:
        self._replicas, self._examine, self._recognise = replicas, examine, recognise
        self._attempts, self._timeout = attempts, timeout
        self._tasks: dict[asyncio.Task[Any], anyio.CancelScope] = {}
        self._closed = False

    async def send(
        self, context: Sequence[int], seed: int, ask: Callable[[str], Awaitable[T]], *, only: Replica | None = None
    ) -> T:
        """Asks a healthy replica, preferably the one that knows the prompt.

        Args:
            context: token ids, which identify the prompt.
            seed: of the request; the jitter of its waits depends only on it.
            ask: makes the request to a URL; raises `ServerFault` where another try may help.
            only: the replica to ask; by default any.

        Raises:
            ServerFault: all tries failed; the last one's fault.
            RuntimeError: it was closed in the meantime.
        """
        self._raise_if_closed()
        task = self._own(self._send(self._replicas.order(context) if only is None else [only], seed, ask))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():
                self._raise_if_closed()  # the caller did not cancel
            await self._end([task])
            raise

    def _own(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Starts a task that `close` ends: a connection that is just being made would outlive its client.

        It is only ever ended through its scope. httpcore shields what closes connections from anyio's way to cancel, not from
        asyncio's: that would leave those open that are not closed yet.
        """
        scope = anyio.CancelScope()

        async def run() -> T:
            with scope:
                return await work
            raise asyncio.CancelledError

        task = asyncio.create_task(run())
        self._tasks[task] = scope
        task.add_done_callback(self._tasks.pop)
        return task

    async def _end(self, tasks: Sequence["asyncio.Task[Any]"]) -> None:
        """Ends tasks, and waits for them."""
        for task in tasks:
            if (scope := self._tasks.get(task)) is not None:
                scope.cancel()
        await asyncio.gather(*map(asyncio.shield, tasks), return_exceptions=True)

    async def _send(self, order: Sequence[Replica], seed: int, ask: Callable[[str], Awaitable[T]]) -> T:
        failed: Replica | None = None
        fault = ServerFault("No attempt was made.")
        for attempt in range(self._attempts):
            try:
                replica = await self._find(order)
                if attempt and replica is failed:  # elsewhere there is nothing to wait for
                    await asyncio.sleep(wait_before(attempt, generator(seed, "retry", attempt)))
                failed = replica
                async with replica.slots:
                    return await self._try(replica, ask)
            except ServerFault as error:
                fault = error
        raise fault

    async def _try(self, replica: Replica, ask: Callable[[str], Awaitable[T]]) -> T:
        """Makes one try, and records what it shows about the replica."""
        if replica.suspect:
            raise Lost(f"{replica.url} went down while requests waited for it.")
        now = asyncio.get_running_loop().time
        try:
            with anyio.fail_after(self._timeout):
                if now() - replica.heard > _QUIET_SECONDS:
                    await self._recognise(replica)
                found = await ask(replica.url)
                replica.heard = now()
                return found
        except TimeoutError as error:
            replica.fail(now())
            raise Lost(f"{replica.url} gave no answer within {self._timeout:g} seconds.") from error
        except Lost as error:
            log.warning("%s", error)
            replica.fail(now())
            raise
        except Busy as error:
            if error.wait is not None:
                replica.rest(now() + min(_LONGEST_REQUESTED_WAIT, error.wait))
            raise

    async def _find(self, order: Sequence[Replica]) -> Replica:
        """Returns a healthy replica; if there is none, waits for the one whose rest ends first and examines it."""
        now = asyncio.get_running_loop().time()
        for replica in order:
            if replica.suspect and replica.resting_until <= now and not replica.examination.locked():
                self._own(self._look(replica))
        if (found := choose(order, now)) is not None:
            return found
        soonest = min(order, key=lambda replica: replica.resting_until)
        await asyncio.sleep(max(0.0, soonest.resting_until - now))
        await self.revive(soonest)
        return soonest

    async def _look(self, replica: Replica) -> None:
        """Examines a replica in the background, so that no request waits for one that still hangs."""
        try:
            await self.revive(replica)
        except ArpoError as error:
            log.info("%s is still not healthy: %s", replica.url, error)

    async def revive(self, replica: Replica) -> None:
        """Examines a suspect replica, once for all that wait for it.

        Raises:
            ArpoError: it is not healthy.
        """
        loop = asyncio.get_running_loop()
        async with replica.examination:
            if not replica.suspect:
                return
            if replica.resting_until > loop.time():
                raise Lost(f"{replica.url} is still down.")
            try:
                await self._examine(replica)
            except ArpoError:
                replica.fail(loop.time())
                raise
            replica.recover()

    async def close(self) -> None:
        """Ends the requests in progress, which fail; later ones fail too."""
        self._closed = True
        await self._end([*self._tasks])

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("The policy was closed.")
