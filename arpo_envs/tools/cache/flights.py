"""Equal calls at the same time are made once, and everybody who asked gets what that one returned."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Thread(threading.local):
    """What a thread is doing."""

    call: bytes | None = None
    """The key of the call that it makes."""


class Flights(Generic[T]):
    """The calls under way, each in a thread of its own, so that nobody waits longer than they want to.

    >>> Flights().wait(b"key", lambda: 6 * 7, seconds=10.0)
    42
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[bytes, Future[T]] = {}
        self._here = _Thread()

    def wait(self, key: bytes, make: Callable[[], T], seconds: float) -> T:
        """Returns what `make` returns, or what an equal call returns that is under way.

        Args:
            key: of the call; equal for equal calls.
            make: makes the call.
            seconds: to wait for it.

        Raises:
            TimeoutError: it takes longer; it is left to itself.
            Exception: what the call raised.
        """
        if self._here.call == key:  # from within the call itself, as where one cache lies before another
            return make()
        with self._lock:
            flight = self._under_way.get(key)
            if flight is None:
                flight = self._under_way[key] = Future()
                threading.Thread(target=self._fly, args=(key, flight, make), daemon=True, name="arpo-answer").start()
        try:
            return flight.result(min(seconds, threading.TIMEOUT_MAX))
        except TimeoutError:
            self._forget(key, flight)  # if it hangs, the next one who asks must not wait for it, too
            raise

    def _fly(self, key: bytes, flight: "Future[T]", make: Callable[[], T]) -> None:
        self._here.call = key
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = make()
        except Exception as error:  # noqa: BLE001  # it is raised in whoever waits for it
            failed = error
        except BaseException as error:  # noqa: BLE001  # sys.exit() in a tool ends nothing but its call
            failed = RuntimeError(f"A tool raised {error!r}.")
        self._forget(key, flight)
        if failed is not None:
            flight.set_exception(failed)
        else:
            flight.set_result(result)  # type: ignore[arg-type]  # made above

    def _forget(self, key: bytes, flight: "Future[T]") -> None:
        with self._lock:
            if self._under_way.get(key) is flight:
                del self._under_way[key]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as new: the calls under way are those of this process."""
        return Flights, ()
