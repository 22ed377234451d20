"""Student's t, as far as intervals of a few runs need it."""

import math
from statistics import NormalDist

_HALVINGS = 80


def expanded_tail(count: int, freedom: int, level: float = 0.95) -> float:
    """Returns the share to cut off at each end of a bootstrap distribution of a mean, so that few values are enough.

    Plain percentiles ignore that n values vary by a factor of √((n − 1)/n) too little, and that the spread itself is
    estimated. Far fewer than 2.5% are cut off for small n, and 2.5% for large n.

    Args:
        count: n, at least 2; with strata, of the smallest one.
        freedom: degrees of it: n − 1, added up over strata.
        level: of the interval.

    Raises:
        ValueError: there are fewer than two values.

    Source: T. Hesterberg (2015), What Teachers Should Know About the Bootstrap, The American Statistician 69, section 4.1.

    >>> [round(expanded_tail(n, n - 1), 4) for n in (5, 10, 1000)]
    [0.001, 0.0086, 0.0248]
    """
    if count < 2:
        raise ValueError(f"An interval needs at least two values, got {count}.")
    return NormalDist().cdf(-math.sqrt(count / (count - 1)) * t_quantile(freedom, level))


def t_quantile(freedom: int, level: float = 0.95) -> float:
    """Returns the t within which Student's distribution lies, on both sides of 0, with a given probability.

    >>> [round(t_quantile(freedom), 3) for freedom in (1, 4, 6)]
    [12.706, 2.776, 2.447]
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Returns the probability that |t| is below √freedom · tan(angle).

    Source: M. Abramowitz, I. A. Stegun (1964), Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    is_odd = freedom % 2 == 1
    term = math.cos(angle) if is_odd else 1.0
    total = term if freedom > 1 else 0.0
    for factor in range(3 if is_odd else 2, freedom - 1, 2):
        term *= (factor - 1) / factor * math.cos(angle) ** 2
        total += term
    return (angle + math.sin(angle) * total) * 2 / math.pi if is_odd else math.sin(angle) * total
