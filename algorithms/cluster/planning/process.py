"""What limits rollouts beside engines: a process that does one thing at a time, its tool threads, and the order of turns."""

from collections import deque
from collections.abc import Callable
from functools import partial

from .engine import Events

GoesOn = Callable[[], None]


class Process:
    """A process in which trees grow.

    Args:
        events: the clock.
        threads: most tool calls at the same time.
    """

    def __init__(self, events: Events, threads: int) -> None:
        self._events, self._threads = events, threads
        self._free_at = 0.0
        """When it has nothing left to do."""
        self._queue: deque[GoesOn] = deque()
        self.busy = 0.0
        """Seconds in which it has worked, or will have."""
        self.under_way = 0
        """Trees that grow in it."""

    def compute(self, seconds: float, goes_on: GoesOn) -> None:
        """Works for some seconds, after what it has to do already."""
        self._free_at = max(self._free_at, self._events.now) + seconds
        self.busy += seconds
        self._events.at(self._free_at, goes_on)

    def act(self, latency: float, seconds: float, goes_on: GoesOn) -> None:
        """Waits for a tool in one of the threads, and then works."""

        def end() -> None:
            self._threads += 1
            if self._queue:
                self._queue.popleft()()
            goes_on()

        def begin() -> None:
            self._threads -= 1
            self._events.at(self._events.now + latency, partial(self.compute, seconds, end))

        self._queue.append(begin)
        if self._threads:
            self._queue.popleft()()


class Turns:
    """A logical clock: a turn is over when all that take part have ended theirs; see `rollout.clock`.

    Args:
        events: the clock.
        wait: whether they wait for each other at all.
    """

    def __init__(self, events: Events, *, wait: bool) -> None:
        self._events, self._wait = events, wait
        self._members = 0
        self._ready: list[GoesOn] = []

    def join(self) -> None:
        """Announces somebody for whom the others wait."""
        self._members += 1

    def leave(self) -> None:
        """Says that nobody need wait for one of them."""
        self._members -= 1
        self._events.at(self._events.now, self._release)

    def tick(self, goes_on: GoesOn) -> None:
        """Waits until all have come this far."""
        if not self._wait:
            goes_on()
            return
        self._ready.append(goes_on)
        self._release()

    def _release(self) -> None:
        if self._ready and len(self._ready) >= self._members:
            ready, self._ready = self._ready, []
            for goes_on in ready:
                self._events.at(self._events.now, goes_on)
