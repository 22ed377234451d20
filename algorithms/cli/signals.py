"""Signals that end a run: what is done is saved, and nothing is broken off in the middle of an update."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self, TypeVar

_AT_ONCE = ("SIGTERM", "SIGHUP")
"""What schedulers and closed terminals send; they do not wait for a step."""
_TIDYING = 5.0
"""Seconds for what was broken off to close its environments."""

Handler = Callable[[int, FrameType | None], Any] | int | None
T = TypeVar("T")


class Stopped(KeyboardInterrupt):
    """A run was told to stop, where there was nothing to finish.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class BrokenOff(Exception):
    """What was under way was left where it is, because a signal says so."""


class Signals:
    """Listens for SIGTERM, SIGHUP and Ctrl-C.

    While steps are taken, the first Ctrl-C is a wish that is fulfilled after the step; the second one, SIGTERM and SIGHUP
    break the step off. An update or a checkpoint that has begun is finished all the same. At all other times they end the
    run where it is. A signal that is ignored, as under nohup, stays so.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal that asked to stop."""
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._urgent = False
        self._before: dict[int, Handler] = {}
        self._left: asyncio.Task[None] | None = None

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
        """Lets what is under way be finished, or broken off in order."""
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        interrupt: Handler = signal.SIG_DFL

        def wish(number: int, frame: FrameType | None) -> None:
            if self.asked is None:
                self.asked = number
            else:  # the second one; a third one is the terminal's own again
                signal.signal(signal.SIGINT, interrupt)
                self._break()

        interrupt = signal.signal(signal.SIGINT, wish)
        try:
            yield
        finally:
            self._stop = None
            signal.signal(signal.SIGINT, interrupt)

    @property
    def is_urgent(self) -> bool:
        """Whether a signal came that does not wait for what comes next."""
        return self._urgent

    async def breaking_off(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns what some work does, unless a signal comes that does not wait for it.

        Raises:
            BrokenOff: it came; the work is where it was, for `tidy`.
        """
        assert self._stop is not None, "only while steps are taken"
        found: list[T] = []

        async def run() -> None:
            found.append(await work)

        task, stop = asyncio.ensure_future(run()), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._left = task
            raise
        finally:
            stop.cancel()
        if task.done():
            task.result()  # or its exception
            return found[0]
        self._left = task
        raise BrokenOff

    async def tidy(self) -> None:
        """Ends what was broken off, and gives it some time to close what it holds."""
        if self._left is not None:
            self._left.cancel()
            ended, _ = await asyncio.wait([self._left], timeout=_TIDYING)
            for task in ended:
                if not task.cancelled():
                    task.exception()  # it is seen, and of no more interest
            self._left = None

    def _break(self) -> None:
        self._urgent = True
        if self._stop is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)  # it may sleep until something happens

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._stop is None:
            raise Stopped(number)
        self.asked = number
        self._break()
