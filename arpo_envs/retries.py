"""How long to wait before something that failed is tried again."""

import numpy as np

_LARGEST_EXPONENT = 1023
"""Of a power of two that a float can hold."""


def wait_before_retry(retry: int, *, first: float, longest: float, rng: np.random.Generator | None = None) -> float:
    """Returns min(longest, first · 2^retry), in seconds; with a generator, times a number drawn between 0.5 and 1.

    Args:
        retry: which one it is, from 0.
        first: seconds before the first retry.
        longest: seconds before any retry, at most.
        rng: draws one number, so that those that failed together do not return together; None draws none.

    >>> [wait_before_retry(retry, first=0.25, longest=8.0) for retry in (0, 1, 2, 5, 6)]
    [0.25, 0.5, 1.0, 8.0, 8.0]
    >>> 1.0 <= wait_before_retry(3, first=0.25, longest=8.0, rng=np.random.default_rng(7)) < 2.0
    True
    """
    wait = min(longest, first * 2.0 ** min(retry, _LARGEST_EXPONENT))
    return wait if rng is None else wait * (0.5 + 0.5 * float(rng.random()))
