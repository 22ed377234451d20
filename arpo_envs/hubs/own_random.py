"""The global random generators of Python and NumPy, lent to one game at a time, so that each has a state of its own."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.random import mtrand

_ONE_AT_A_TIME = threading.RLock()


class OwnRandom:
    """What the global generators are for one game; a deep copy goes on with the same states, independently.

    Args:
        seed: of both generators.

    >>> mine, other = OwnRandom(1), OwnRandom(1)
    >>> with mine.lent():
    ...     first = random.random()
    >>> with other.lent():
    ...     again = random.random()
    >>> first == again
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Makes what is drawn from here on a function of `seed`."""
        self._python, self._numpy = random.Random(seed).getstate(), np.random.MT19937(seed)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Puts these states into the global generators, and theirs back afterwards; games of other threads wait."""
        with _ONE_AT_A_TIME:
            python, bits = random.getstate(), mtrand.get_bit_generator()
            whole = np.random.get_state(legacy=False)  # noqa: NPY002  # a swap would lose a normal number drawn in advance
            random.setstate(self._python)
            mtrand.set_bit_generator(self._numpy)
            try:
                yield
            finally:
                self._python = random.getstate()
                random.setstate(python)
                mtrand.set_bit_generator(bits)
                if whole["has_gauss"]:
                    np.random.set_state(whole)  # noqa: NPY002
