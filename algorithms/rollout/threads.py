"""Runs blocking tool calls beside the event loop; a thread that does not return is replaced.

`concurrent.futures` joins its threads at exit and never replaces a hung one: a single stuck tool
would occupy a worker for ever, and keep the interpreter from exiting.
"""

import asyncio
import contextlib
import math
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar

_PATIENCE = 0.001
"""Seconds that a call may wait for busy threads before another one is woken for it: most tools are faster."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    function: Callable[[], Any]
    future: "asyncio.Future[Any]"
    state: Literal["queued", "running", "done", "given up"] = "queued"


class ToolThreads:
    """A pool of daemon threads for one event loop.

    Results are handed over in bursts, and a thread sleeps as long as the busy ones keep up with the queue: waking a thread
    for every call, and the loop for every result, would cost more than most tools do.

    Args:
        limit: how many threads may work at the same time; hung ones do not count.
        late: called with the result of a call that nobody waits for any more.
    """

    def __init__(self, limit: int = 64, late: Callable[[Any], None] = lambda result: None) -> None:
        self._limit, self._slots = limit, asyncio.Semaphore(limit)
        self._late = late
        self._lock = threading.Lock()  # guards the queue, the list of sleeping threads and the jobs' states
        self._queue: deque[_Job] = deque()
        self._asleep: list[queue.SimpleQueue[None]] = []
        self._closed = False
        self._begun = -math.inf
        self._coming = 0
        self._looking = False
        self._finished: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False
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
            loop = asyncio.get_running_loop()
            job = _Job(partial(function, *args, **kwargs), loop.create_future())
            self._submit(loop, job)
            alarm = loop.call_later(timeout, self._expire, job)
            try:
                result: T = await job.future
                return result
            except asyncio.CancelledError:
                self._give_up(job)
                raise
            finally:
                alarm.cancel()

    def close(self) -> None:
        """Lets the idle threads end."""
        with self._lock:
            self._closed = True
            asleep, self._asleep = self._asleep, []
        for bell in asleep:
            bell.put(None)

    # --- on the loop ----------------------------------------------------------------------------------------

    def _submit(self, loop: asyncio.AbstractEventLoop, job: _Job) -> None:
        with self._lock:
            self._queue.append(job)
            awake = self.threads - len(self._asleep)
        if not awake or self._are_stuck(loop):
            self._rouse(loop, 1)
        elif not self._looking:
            self._look_later(loop)

    def _are_stuck(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether all threads that are awake are busy with slow jobs."""
        return not self._coming and loop.time() - self._begun > _PATIENCE

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = True
        loop.call_later(_PATIENCE, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Doubles the number of threads that are awake, if they are stuck."""
        self._looking = False
        if self._queue:
            if self._are_stuck(loop):
                self._rouse(loop, min(len(self._queue), max(1, self.threads - len(self._asleep))))
            self._look_later(loop)

    def _rouse(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        with self._lock:
            bells = [self._asleep.pop() for _ in range(min(count, len(self._asleep)))]
            new = min(count - len(bells), self._limit - self.threads)  # one that has just finished only looks busy
            self._coming += len(bells) + new
        for bell in bells:
            bell.put(None)
        for _ in range(new):
            self.threads += 1
            threading.Thread(target=self._work, args=(loop,), daemon=True, name="arpo-tool").start()

    def _expire(self, job: _Job) -> None:
        if not job.future.done():
            self._give_up(job)
            job.future.set_exception(TimeoutError())

    def _give_up(self, job: _Job) -> None:
        with self._lock:
            before, job.state = job.state, "given up"
        if before == "running":
            self.abandoned += 1
            self.threads -= 1
        elif job.future.done() and not job.future.cancelled() and job.future.exception() is None:
            self._late(job.future.result())  # it came just before the cancellation

    def _deliver(self) -> None:
        self._woken = False  # before looking: what is finished from now on wakes the loop again
        while self._finished:
            future, result, error = self._finished.popleft()
            if future.done():  # nobody waits for it any more
                self._late(result)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    # --- in a thread ----------------------------------------------------------------------------------------

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._arrive()
        while (job := self._next(loop, bell)) is not None:
            result, error = _outcome(job.function)
            with self._lock:
                awaited, job.state = job.state == "running", "done"
            if not awaited:
                self._late(result)
                return  # another thread has taken this one's place
            self._finished.append((job.future, result, error))
            del job, result, error  # do not keep an environment alive while waiting for the next job
            if not self._woken:
                self._woken = True
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(self._deliver)

    def _next(self, loop: asyncio.AbstractEventLoop, bell: "queue.SimpleQueue[None]") -> _Job | None:
        """Returns the next job, sleeping until there is one; None if there will be none."""
        while True:
            with self._lock:
                while self._queue:
                    job = self._queue.popleft()
                    if job.state == "queued":
                        job.state, self._begun = "running", loop.time()
                        return job
                if self._closed:
                    return None
                self._asleep.append(bell)
            bell.get()
            self._arrive()

    def _arrive(self) -> None:
        with self._lock:
            self._coming -= 1


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Returns a function's result, or the error to raise in whoever waits for it."""
    try:
        return function(), None
    except StopIteration as error:  # a future does not accept it
        return None, RuntimeError(f"A tool raised {error!r}.")
    except Exception as error:  # noqa: BLE001  # it is handed to the awaiting coroutine, whatever it is
        return None, error
    except BaseException as error:  # noqa: BLE001  # sys.exit() in a tool must not end the event loop
        return None, RuntimeError(f"A tool raised {error!r}.")
