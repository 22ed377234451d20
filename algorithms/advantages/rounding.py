"""Rewards that differ only by rounding: no estimator may find a better and a worse rollout among them.

0.1 + 0.2 and 0.3 are the same reward. Dividing by a deviation makes the difference between them as large as any other.
"""

import numpy as np
from numpy.typing import NDArray

ROOM = 64.0
"""How many roundings of the largest number equal numbers may differ by: each addition rounds once, by half of one."""


def tolerance(value_I: NDArray[np.float64]) -> float:
    """Returns the difference up to which numbers count as equal.

    Args:
        value_I: [I] numbers, in any unit.

    >>> tolerance(np.array([1.0, -8.0])) == 64 * 8.0 * 2.0**-52
    True
    """
    return ROOM * float(np.finfo(np.float64).eps) * float(np.abs(value_I).max(initial=0.0))


def are_equal(value_I: NDArray[np.float64]) -> bool:
    """Returns whether numbers, [I], are all equal up to rounding.

    >>> are_equal(np.array([0.1 + 0.2, 0.3])), are_equal(np.array([0.3, 0.3001]))
    (True, False)
    """
    return not len(value_I) or float(np.ptp(value_I)) <= tolerance(value_I)


def snapped(value_I: NDArray[np.float64], size: float = 0.0) -> NDArray[np.float64]:
    """Returns the numbers, [I], with those that are equal up to rounding made exactly equal.

    Args:
        value_I: [I] numbers.
        size: the largest number that was added up to one of them; numbers that cancel leave their rounding.

    >>> snapped(np.array([0.1 + 0.2, 7.0, 0.3])).tolist()
    [0.3, 7.0, 0.3]
    >>> snapped(np.array([0.1 + 0.2 - 0.3, 0.0]), size=0.6).tolist()
    [0.0, 0.0]
    """
    order_I = np.argsort(value_I, kind="stable")
    sorted_I = value_I[order_I]
    starts = np.flatnonzero(np.diff(sorted_I, prepend=-np.inf) > tolerance(np.append(value_I, size)))
    lengths = np.diff(np.append(starts, len(sorted_I)))
    found_I = np.empty_like(value_I)
    found_I[order_I] = np.repeat(sorted_I[starts], lengths)
    return found_I
