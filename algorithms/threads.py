"""Runs blocking tool calls beside the event loop; a thread that does not return is replaced.

`concurrent.futures` joins its threads at exit and never replaces a hung one, so that one stuck tool
would take a worker for ever and stop the interpreter from ending.
"""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar

_PATIENCE = 0.001
"""Seconds that a job may lie in the queue before a thread is started for it: most tools are faster."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    function: Callable[[], Any]
    future: "asyncio.Future[Any]"
    state: Literal["queued", "running", "done", "given up"] = "queued"


class ToolThreads:
    """A pool of daemon threads for one event loop.

    The threads share one queue, and what they finish is handed over in bursts: a thread woken for
    every call, and the loop for every result, would cost more than most tools.

    Args:
        limit: threads that may work at the same time; hung ones do not count.
        late: is given the result of a call for which nobody waits any more.
    """

    def __init__(self, limit: int = 64, late: Callable[[Any], None] = lambda result: None) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._late = late
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._finished: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False
        self._lock = threading.Lock()  # of the jobs' states
        self._waiting = 0
        self._begun = 0
        self._growing = False
        self.threads = 0
        """Threads that work or wait for work."""
        self.abandoned = 0
        """Threads that did not return in time."""

    async def run(self, timeout: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `function(*args, **kwargs)`, run in a thread.

        Raises:
            TimeoutError: it took longer than `timeout` seconds; its thread is abandoned.
        """
        async with self._slots:
            job = _Job(partial(function, *args, **kwargs), asyncio.get_running_loop().create_future())
            self._waiting += 1
            self._jobs.put(job)
            self._provide(job.future.get_loop())
            try:
                async with asyncio.timeout(timeout):
                    result: T = await job.future
                    return result
            except (TimeoutError, asyncio.CancelledError):
                self._give_up(job)
                raise
            finally:
                self._waiting -= 1

    def close(self) -> None:
        """Lets the idle threads end."""
        for _ in range(self.threads):
            self._jobs.put(None)
        self.threads = 0

    def _provide(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts a thread if there is none, and looks again later whether there are too few."""
        if self.threads == 0:
            self._start(loop)
        elif self._waiting > self.threads and not self._growing:
            self._growing = True
            loop.call_later(_PATIENCE, self._grow, loop, self._begun)

    def _grow(self, loop: asyncio.AbstractEventLoop, begun: int) -> None:
        """Doubles the threads if none of them has begun a job since it had begun `begun`."""
        self._growing = False
        if self._begun == begun:
            for _ in range(min(self.threads, self._jobs.qsize())):
                self._start(loop)
        if self._jobs.qsize():
            self._provide(loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.threads += 1
        threading.Thread(target=self._work, args=(loop,), daemon=True, name="arpo-tool").start()

    def _give_up(self, job: _Job) -> None:
        with self._lock:
            before, job.state = job.state, "given up"
        if before == "running":
            self.abandoned += 1
            self.threads -= 1
        elif job.future.done() and not job.future.cancelled() and job.future.exception() is None:
            self._late(job.future.result())  # it came just before we were cancelled

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._moves(job, "queued", "running"):
                continue
            result, error = _outcome(job.function)
            if not self._moves(job, "running", "done"):
                self._late(result)
                return  # another thread has this one's place
            self._finished.append((job.future, result, error))
            del job, result, error  # do not keep an environment alive while waiting for the next job
            if not self._woken:
                self._woken = True
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(self._deliver)

    def _moves(self, job: _Job, before: str, after: Literal["running", "done"]) -> bool:
        """Moves a job on, unless it was given up."""
        with self._lock:
            if job.state != before:
                return False
            job.state = after
            self._begun += after == "running"
            return True

    def _deliver(self) -> None:
        self._woken = False  # before looking: what is finished from now on wakes the loop again
        while self._finished:
            future, result, error = self._finished.popleft()
            if future.cancelled():
                self._late(result)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Returns a function's result, or the error to raise in whoever waits for it."""
    try:
        return function(), None
    except StopIteration as error:  # no future takes one
        return None, RuntimeError(f"A tool raised {error!r}.")
    except Exception as error:  # noqa: BLE001  # it is handed to the awaiting coroutine, whatever it is
        return None, error
    except BaseException as error:  # noqa: BLE001  # sys.exit() in a tool must not end the event loop
        return None, RuntimeError(f"A tool raised {error!r}.")
