"""Signals that end a run: what is done is saved, and nothing is broken off in the middle of an update."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_AT_ONCE = ("SIGTERM", "SIGHUP")
"""What schedulers and closed terminals send; they do not wait for a step."""

Handler = Callable[[int, FrameType | None], Any] | int | None


class Stopped(KeyboardInterrupt):
    """A run was told to stop, where there was nothing to finish.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """Listens for SIGTERM, SIGHUP and Ctrl-C.

    While steps are taken, the first Ctrl-C is a wish that is fulfilled after the step, and the second one breaks the step
    off; SIGTERM and SIGHUP break it off at once. An update that has begun is finished all the same. At all other times
    they end the run where it is. A signal that is ignored, as under nohup, stays so.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal that asked to stop."""
        self._task: asyncio.Task[Any] | None = None
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        """Begins to listen."""
        for name in _AT_ONCE:
            number = getattr(signal, name, None)  # there is no SIGHUP on Windows
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._end)
        return self

    def __exit__(self, *exception: object) -> None:
        """Listens no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def during_steps(self) -> Iterator[None]:
        """Lets the current task finish what it is at."""
        self._task = asyncio.current_task()
        interrupt = signal.signal(signal.SIGINT, lambda number, frame: self._wish(number, interrupt))
        try:
            yield
        finally:
            self._task = None
            signal.signal(signal.SIGINT, interrupt)

    @property
    def breaks_off(self) -> bool:
        """Whether the step under way was broken off by a signal that was heard here."""
        return self.asked is not None and self.asked != signal.SIGINT

    def _wish(self, number: int, then: Handler) -> None:
        self.asked = self.asked or number
        signal.signal(signal.SIGINT, then)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._task is None:
            raise Stopped(number)
        first, self.asked = not self.breaks_off, number
        if first:
            self._task.cancel()
            self._task.get_loop().call_soon_threadsafe(lambda: None)  # it may sleep until something happens
