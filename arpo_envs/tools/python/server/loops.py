"""Event loops without descriptors of their own, so that cells can wait, and a copy of a waiting loop is exact.

asyncio's usual loop has an epoll, which a copy would share with its original, and a pair of sockets by which other threads and
signals wake it. There are no other threads here, and nobody sends signals.

asyncio itself is imported when a cell first needs it: with it, every fork would take 7 % longer.
"""

import contextlib
import importlib.abc
import importlib.machinery
import selectors
import sys
from collections.abc import Callable, Coroutine, Sequence
from types import ModuleType
from typing import Any

from . import errors

_LOOPS = "asyncio.unix_events"


class _WithoutDescriptors:
    """Turns an event loop of asyncio into one that waits by `poll`, which keeps nothing in the kernel."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector or selectors.PollSelector())  # type: ignore[call-arg]  # the event loop's

    def _make_self_pipe(self) -> None:
        """Does nothing: nobody would wake it."""

    def _close_self_pipe(self) -> None:
        """Does nothing: there is none."""

    def _write_to_self(self) -> None:
        """Does nothing: the caller is the only thread, so the loop is awake."""

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> None:
        """Refuses, as loops do on systems without such signals."""
        raise NotImplementedError("no signals reach a cell")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Lets through what no program should catch, above all the time limit, and passes on the rest."""
        from asyncio import CancelledError

        error = context.get("exception")
        if error is not None and not isinstance(error, (Exception, CancelledError)):
            raise error
        super().call_exception_handler(context)  # type: ignore[misc]  # the event loop's

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Says in one line what went wrong in a task that nobody awaited."""
        error = context.get("exception")
        what = "" if error is None else f": {errors.last_line(error)}"
        sys.stderr.write(f"{context['message']}{what}\n")


class _Finder(importlib.abc.MetaPathFinder):
    """Changes asyncio's loops as soon as they are imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Finds the module of the loops, and leaves all other modules to other finders."""
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == _LOOPS else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one
        return spec


def _change(module: ModuleType) -> None:
    loop = type("SelectorEventLoop", (_WithoutDescriptors, module.SelectorEventLoop), {"__module__": module.__name__})
    for name in ("SelectorEventLoop", "EventLoop"):
        if hasattr(module, name):
            setattr(module, name, loop)
    module._UnixDefaultEventLoopPolicy._loop_factory = loop  # what `asyncio.run` and `new_event_loop` make


def offer() -> None:
    """Makes these the loops that `asyncio.run` and all else in asyncio use; call it before anything imports asyncio."""
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc,assignment]  # the one a session can use
    sys.meta_path.insert(0, _Finder())


class Waiting:
    """The loop in which cells wait; tasks that one leaves behind continue while a later one waits."""

    def __init__(self) -> None:
        self._loop: Any = None

    def run(self, begin: Callable[[], Coroutine[Any, Any, object]]) -> object:
        """Runs a coroutine to its end and returns its result; when it is interrupted, its clean-up runs first.

        Args:
            begin: makes the coroutine; it is called when all else is ready, because importing asyncio takes a while, and a
                coroutine that is interrupted before it starts would be reported as the cell's mistake.
        """
        from asyncio import CancelledError, unix_events

        if self._loop is None or self._loop.is_closed() or self._loop.is_running():  # a cell may have done anything to it
            self._loop = unix_events.SelectorEventLoop()
        coroutine, task = begin(), None
        try:
            task = self._loop.create_task(coroutine)
            task._log_destroy_pending = False  # it may be lost when it is interrupted, which is reported anyway
            return self._loop.run_until_complete(task)
        except BaseException:
            if task is None:
                coroutine.close()
            elif not task.done():
                task.cancel()
                with contextlib.suppress(CancelledError, RuntimeError):
                    self._loop.run_until_complete(task)
            raise

    @staticmethod
    def settle() -> None:
        """Forgets a loop that was interrupted while it recorded that it no longer runs."""
        events = sys.modules.get("asyncio.events")
        if events is not None:
            with contextlib.suppress(Exception):  # a cell may have replaced it
                events._set_running_loop(None)
