"""Signals that end a run: what is done is saved, and no update is broken off in the middle."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self, TypeVar

_AT_ONCE = ("SIGTERM", "SIGHUP")
"""What schedulers and closed terminals send; they do not wait for a step."""
_TIDYING = 5.0
"""Seconds that broken-off work has to close its environments."""

Handler = Callable[[int, FrameType | None], Any] | int | None
T = TypeVar("T")


class Stopped(KeyboardInterrupt):
    """A run was told to stop while there was nothing to finish.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class BrokenOff(Exception):
    """Work was broken off because of a signal."""


class Signals:
    """Listens for SIGTERM, SIGHUP and Ctrl-C.

    During the steps, the first Ctrl-C ends the run after the current step, without what would come next; a second one, SIGTERM
    and SIGHUP break the step off. An update or a checkpoint that has begun is still finished. At all other times, each of them
    ends the run at once. A signal that is ignored, as under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal that asked to stop."""
        self._wish: asyncio.Event | None = None
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
        """Stops listening."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def during_steps(self) -> Iterator[None]:
        """Lets the current step be finished, or broken off cleanly."""
        self._wish, self._stop, self._loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
        interrupt: Handler = signal.SIG_DFL

        def wish(number: int, frame: FrameType | None) -> None:
            if self.asked is None:
                self.asked = number
                self._set(self._wish)
            else:  # the second one; a third one goes to the previous handler
                signal.signal(signal.SIGINT, interrupt)
                self._break()

        interrupt = signal.signal(signal.SIGINT, wish)
        try:
            yield
        finally:
            self._wish = self._stop = None
            signal.signal(signal.SIGINT, interrupt)

    @property
    def is_urgent(self) -> bool:
        """Whether a signal came that does not wait for the end of a step."""
        return self._urgent

    async def breaking_off(self, work: Coroutine[Any, Any, T], whole: Callable[[], bool] = lambda: False) -> T:
        """Returns the result of some work, unless a signal comes that does not wait for it.

        Args:
            work: to be done.
            whole: says whether it is at something that must be finished, in another thread; the work ends with that.

        Raises:
            BrokenOff: one came; `tidy` ends the work.
        """
        return await self._until(self._stop, work, whole)

    async def unless_asked(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns the result of some work after a step, unless any signal comes or has come.

        Raises:
            BrokenOff: one came; `tidy` ends the work.
        """
        return await self._until(self._wish, work, lambda: False)

    async def _until(self, event: asyncio.Event | None, work: Coroutine[Any, Any, T], whole: Callable[[], bool]) -> T:
        assert event is not None, "only while steps are taken"
        found: list[T] = []

        async def run() -> None:
            found.append(await work)

        task, stop = asyncio.ensure_future(run()), asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if whole():
                await asyncio.wait([task])
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
        """Cancels the work that was broken off, and gives it some time to close what it holds."""
        if self._left is not None:
            self._left.cancel()
            ended, _ = await asyncio.wait([self._left], timeout=_TIDYING)
            for task in ended:
                if not task.cancelled():
                    task.exception()  # retrieved, or asyncio would log it; nobody needs it any more
            self._left = None

    def _break(self) -> None:
        self._urgent = True
        self._set(self._wish)
        self._set(self._stop)

    def _set(self, event: asyncio.Event | None) -> None:
        if event is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(event.set)  # the loop may be asleep until something happens

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._stop is None:
            raise Stopped(number)
        self.asked = number
        self._break()
