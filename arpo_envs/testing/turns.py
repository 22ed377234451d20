"""Threads that take turns, and threads that work at once, for what must not depend on which thread calls it."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self

_JOINED = 2.0
"""Seconds that a thread is given to end; one that hangs is left behind."""


class Turns:
    """A few threads that live until the end: a new thread may reuse the id of one that has ended.

    Args:
        count: the number of threads.
    """

    def __init__(self, count: int = 3) -> None:
        self._queues: list[queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]] = []
        self._threads: list[threading.Thread] = []
        self._turn = 0
        self._hangs = False
        for _ in range(count):
            self._queues.append(queue.SimpleQueue())
            self._threads.append(threading.Thread(target=_work, args=(self._queues[-1],), daemon=True, name="conformance"))
            self._threads[-1].start()

    def run(self, function: Callable[..., Any], *arguments: Any, within: float | None = None) -> Any:
        """Runs a function in the thread whose turn it is, and returns its result.

        Raises:
            TimeoutError: it did not return within this many seconds.
        """
        return self._result(self._start(partial(function, *arguments)), within)

    def at_once(self, function: Callable[[], Any], times: int, within: float) -> list[Any]:
        """Runs a function this many times at once, if there are enough threads, and returns the results.

        Raises:
            TimeoutError: one did not return within this many seconds.
        """
        futures = [self._start(function) for _ in range(times)]
        return [self._result(future, within) for future in futures]

    def _result(self, future: "Future[Any]", within: float | None) -> Any:
        try:
            return future.result(within)
        except TimeoutError:
            self._hangs = self._hangs or not future.done()
            raise

    def _start(self, function: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._queues[self._turn % len(self._queues)].put((future, function))
        self._turn += 1
        return future

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the threads."""
        for one in self._queues:
            one.put(None)
        for thread in self._threads:
            thread.join(0.0 if self._hangs else _JOINED)


def _work(jobs: "queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    while (job := jobs.get()) is not None:
        future, function = job
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001  # it is raised in whoever waits
            future.set_exception(error)
        del job, future, function  # nothing that is counted may live on here
