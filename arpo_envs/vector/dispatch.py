"""Runs the calls of rows in threads, one thread for each row, so that no row waits for another."""

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
from numpy.typing import NDArray

from ..errors import ConfigError
from .row import Step

Rows = Sequence[int] | NDArray[Any]
"""Numbers of rows."""
Outcome = Step | Exception
Finished = queue.SimpleQueue[tuple[int, Outcome]]


class Dispatcher:
    """Knows which rows are in use, and what those have returned that were sent off.

    Args:
        count: the number of rows.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._closed = False
        self._busy: set[int] = set()
        self._begin()

    def _begin(self) -> None:
        self._workers = [_Worker(f"arpo-row-{row}") for row in range(self._count)]
        self._lock = threading.Lock()  # guards whether it is closed, and the two sets
        self._sent: set[int] = set()
        self._finished: Finished = queue.SimpleQueue()
        self._owner = os.getpid()

    def _begin_in_fork(self) -> None:
        """Begins anew in a forked child, which has no threads; rows that were in use stay so, in a state that nobody knows."""
        if self._owner != os.getpid():
            self._begin()

    def claim(self, rows: Iterable[int], what: str) -> None:
        """Marks rows as in use.

        Raises:
            ClosedEnvironmentError: the threads have ended.
            AlreadyPendingCallError: one of the rows is in use already.
        """
        self._begin_in_fork()
        with self._lock:
            self._require_open(what)
            if taken := sorted(self._busy.intersection(rows)):
                raise gym.error.AlreadyPendingCallError(
                    f"{what}() of rows {taken}, which are still at work: wait for them (recv() returns what was sent).",
                    what,
                )
            self._busy.update(rows)

    def free(self, rows: Iterable[int]) -> None:
        """Marks rows as idle again."""
        with self._lock:
            self._busy.difference_update(rows)

    def run(self, calls: Mapping[int, Callable[[], Step]]) -> dict[int, Outcome]:
        """Runs the calls of claimed rows side by side, and returns the outcomes when all have returned."""
        finished: Finished = queue.SimpleQueue()
        with self._lock:
            self._submit(calls, finished)
        outcomes = dict(finished.get() for _ in calls)
        return {row: outcomes[row] for row in calls}

    def send(self, calls: Mapping[int, Callable[[], Step]]) -> None:
        """Starts the calls of claimed rows; they stay claimed until they are received."""
        with self._lock:
            self._submit(calls, self._finished)
            self._sent.update(calls)

    def receive(self, at_least: int, timeout: float | None) -> dict[int, Outcome]:
        """Returns the outcomes of rows that were sent and have returned, in the order of the rows, which are idle then.

        Raises:
            NoAsyncCallError: no row was sent.
            ConfigError: fewer were sent than are asked for.
            TimeoutError: fewer returned in time; nothing is lost.
        """
        self._begin_in_fork()
        with self._lock:
            sent = len(self._sent)
        if not sent:
            raise gym.error.NoAsyncCallError("recv() without rows that were sent: call send(rows, actions) first.", "recv")
        if not 1 <= at_least <= sent:
            raise ConfigError(f"at_least must lie in 1..{sent}, the number of rows that were sent, got {at_least}.")
        outcomes = dict(sorted(self._collected(at_least, timeout), key=lambda one: one[0]))
        with self._lock:
            self._sent.difference_update(outcomes)
            self._busy.difference_update(outcomes)
        return outcomes

    def _collected(self, at_least: int, timeout: float | None) -> list[tuple[int, Outcome]]:
        deadline = None if timeout is None else time.monotonic() + timeout
        found: list[tuple[int, Outcome]] = []
        try:
            while len(found) < at_least:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                found.append(self._finished.get(timeout=left))
            while True:
                found.append(self._finished.get_nowait())
        except queue.Empty:
            if len(found) >= at_least:
                return found
        for one in found:
            self._finished.put(one)
        raise TimeoutError(
            f"{len(found)} of at least {at_least} rows returned within {timeout} s; the others are still at work."
        )

    def shut(self) -> set[int]:
        """Takes no more calls, lets the threads end after those they have, and returns the rows in use."""
        self._begin_in_fork()
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.stop()
            return set(self._busy)

    def join(self, patience: float) -> None:
        """Waits for the threads to end; one that takes longer than this many seconds is left behind."""
        deadline = time.monotonic() + patience
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def _submit(self, calls: Mapping[int, Callable[[], Step]], finished: Finished) -> None:
        self._require_open("step")
        for row, call in calls.items():
            self._workers[row].submit(partial(_do, call, row, finished))

    def _require_open(self, what: str) -> None:
        if self._closed:
            raise gym.error.ClosedEnvironmentError(f"{what}() after close(): make a new vector environment.")


class _Worker:
    """A daemon thread, started with its first job, that ends when its owner does: a hung tool keeps no program alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._jobs.put, None)

    def submit(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), daemon=True, name=self._name)
            self._thread.start()

    def stop(self) -> None:
        self._jobs.put(None)

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)


def _work(jobs: "queue.SimpleQueue[Callable[[], None] | None]") -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # an environment must not live on in a thread that waits


def _do(call: Callable[[], Step], row: int, finished: Finished) -> None:
    outcome: Outcome
    try:
        outcome = call()
    except Exception as error:  # noqa: BLE001  # it is raised in whoever waits, whatever it is
        outcome = error
    except BaseException as error:  # noqa: BLE001  # sys.exit() in a tool must not leave whoever waits waiting
        outcome = RuntimeError(f"A row raised {error!r}.")
    finished.put((row, outcome))


def required_rows(rows: Rows, count: int) -> list[int]:
    """Returns rows as plain numbers.

    Raises:
        ConfigError: they are none, not numbers of rows, or one occurs twice.

    >>> required_rows([2, 0], count=3)
    [2, 0]
    """
    wanted = list(rows)
    if any(isinstance(row, bool) or type(row).__name__ == "bool" for row in wanted):
        raise ConfigError("Rows are given by number, not by a mask; numpy.flatnonzero(mask) turns one into numbers.")
    if not wanted or any(not 0 <= row < count for row in wanted) or len({*wanted}) < len(wanted):
        raise ConfigError(f"Expected distinct rows in 0..{count - 1}, at least one, got {wanted}.")
    return [int(row) for row in wanted]
