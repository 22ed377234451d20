"""Checkpoints that are written while the run goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Background:
    """Writes checkpoints in another thread, one at a time; a context manager, which waits at its end.

    What is written is a copy, see `learner.Snapshot`: while it is written, the weights and the optimizer's state are in memory
    twice, and never more often.

    >>> from contextlib import nullcontext
    >>> found = []
    >>> with Background() as background:
    ...     for step in range(3):
    ...         background.begin(lambda: nullcontext(f"weights {step}"), found.append)
    >>> found
    ['weights 0', 'weights 1', 'weights 2']
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Any] | None = None

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Waits for what is being written; see `wait`, but another error matters more, and gets a note."""
        try:
            self.wait()
        except Exception as second:
            if error is None:
                raise
            error.add_note(str(second))
        finally:
            self._thread.shutdown()

    @property
    def is_writing(self) -> bool:
        """Whether something is still being written."""
        return self._writing is not None and not self._writing.done()

    def begin(self, take: Callable[[], AbstractContextManager[T]], write: Callable[[T], Any]) -> None:
        """Takes a copy now, and begins to write it, as soon as nothing else is being written.

        Args:
            take: returns the copy, e.g. `learner.snapshot`; it is left as a context when it is written.
            write: writes it, e.g. with `save`.

        Raises:
            Exception: what the writing before raised; nothing was begun.
        """
        self.wait()
        with ExitStack() as stack:
            copy = stack.enter_context(take())
            self._writing = self._thread.submit(_write, stack.pop_all(), partial(write, copy))

    def rest(self) -> None:
        """Waits until nothing is being written; what has failed is raised by `wait`."""
        if self._writing is not None:
            wait_for([self._writing])  # if a signal interrupts it, nothing is forgotten

    def wait(self) -> None:
        """Waits until nothing is being written, and raises what went wrong with the last one, once."""
        self.rest()
        if self._writing is not None:
            try:
                self._writing.result()
            finally:
                self._writing = None


def _write(held: ExitStack, write: Callable[[], Any]) -> None:
    with held:
        write()


def is_no_memory(error: Exception) -> bool:
    """Whether there was no memory for a copy; torch says so for a CPU in an error of no special kind.

    >>> is_no_memory(MemoryError()), is_no_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    (True, True)
    >>> is_no_memory(RuntimeError("shapes differ"))
    False
    """
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
