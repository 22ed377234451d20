"""Runs blocking tool calls beside the event loop; a thread that does not return is replaced.

`concurrent.futures` joins its threads at exit and never replaces a hung one, so that one stuck tool
would take a worker for ever and stop the interpreter from ending.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class ToolThreads:
    """A pool of daemon threads for one event loop.

    Args:
        limit: threads that may work at the same time; hung ones do not count.
        late: is given the result of a call for which nobody waits any more.
    """

    def __init__(self, limit: int = 64, late: Callable[[Any], None] = lambda result: None) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._late = late
        self._idle: list[_Worker] = []
        self.abandoned = 0
        """Threads that did not return in time."""

    async def run(self, timeout: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `function(*args, **kwargs)`, run in a thread.

        Raises:
            TimeoutError: it took longer than `timeout` seconds; its thread is abandoned.
        """
        async with self._slots:
            worker = self._idle.pop() if self._idle else _Worker(self._late)
            future = worker.do(lambda: function(*args, **kwargs))
            try:
                async with asyncio.timeout(timeout):
                    result: T = await future
            except (TimeoutError, asyncio.CancelledError):
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._late(future.result())  # it came just before we were cancelled
                if worker.busy:
                    self.abandoned += 1
                    worker.stop()
                else:
                    self._idle.append(worker)
                raise
            except BaseException:
                self._idle.append(worker)
                raise
            self._idle.append(worker)
            return result

    def close(self) -> None:
        """Lets the idle threads end."""
        for worker in self._idle:
            worker.stop()
        self._idle = []


class _Worker:
    """One thread and its mailbox."""

    def __init__(self, late: Callable[[Any], None]) -> None:
        self.busy = False
        self._late = late
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="arpo-tool").start()

    def do(self, function: Callable[[], Any]) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.busy = True
        self._jobs.put((loop, future, function))
        return future

    def stop(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, function = job
            result: Any = None
            error: BaseException | None = None
            try:
                result = function()
            except Exception as caught:  # noqa: BLE001  # it is handed to the awaiting coroutine, whatever it is
                error = caught
            except BaseException as caught:  # noqa: BLE001  # sys.exit() in a tool must not end the event loop
                error = RuntimeError(f"A tool raised {caught!r}.")
            if isinstance(error, StopIteration):  # no future takes one
                error = RuntimeError(f"A tool raised {error!r}.")
            self.busy = False
            del function, job  # do not keep an environment alive while waiting for the next job
            if future.cancelled():
                self._late(result)
            else:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(self._deliver, future, result, error)
            del future, result, error

    def _deliver(self, future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
        if future.cancelled():
            self._late(result)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
