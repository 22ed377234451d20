"""The global random generators of Python and NumPy, lent to one game at a time, so that each has a state of its own."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_ONE_AT_A_TIME = threading.RLock()


class OwnRandom:
    """What the global generators are for one game, which draws from nothing else.

    Copies go on with the same state, independently.

    Args:
        seed: of both generators.

    >>> mine = OwnRandom(1)
    >>> with mine.lent():
    ...     first = random.random()
    >>> with OwnRandom(1).lent():
    ...     again = random.random()
    >>> first == again
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Makes what is drawn from here on a function of `seed`."""
        with _ONE_AT_A_TIME:
            outside = _states()
            try:
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002  # these generators are what the games use
                self._states = _states()
            finally:
                _restore(outside)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Puts this state into the global generators, and theirs back afterwards; games of other threads wait."""
        with _ONE_AT_A_TIME:
            outside = _states()
            _restore(self._states)
            try:
                yield
            finally:
                self._states = _states()
                _restore(outside)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OwnRandom":
        """Shares the states, which are replaced and never changed."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin._states = self._states
        return twin


def _states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _restore(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
