"""How sure an average is."""

import math
from collections.abc import Sequence
from statistics import mean, stdev

_Z = 1.96
"""Of 95%, two-sided."""


def mean_interval(values: Sequence[float], parts: Sequence[float] = ()) -> tuple[float, float]:
    """Returns a 95% interval of a mean.

    For values that all lie between 0 and 1 it is Wilson's: exactly that of a proportion if they are 0 and 1, and wider than
    need be if they lie between, as no such values vary more than a proportion does. For others it is the normal one, which a
    single value does not bound.

    Args:
        values: independent of one another.
        parts: of which `values` are the means, if they are means; where these lie and how they deviate is then what counts.

    >>> mean_interval([0.0, 0.0, 0.0])[0], [round(end, 3) for end in mean_interval([2.0, 4.0, 6.0])]
    (0.0, [1.737, 6.263])
    """
    parts = parts or values
    if all(0.0 <= value <= 1.0 for value in parts):
        return wilson(sum(values), len(values))
    half = _Z * stdev(parts) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return mean(values) - half, mean(values) + half


def wilson(successes: float, trials: int, z: float = _Z) -> tuple[float, float]:
    """Returns the Wilson score interval of a proportion.

    Source: E. B. Wilson (1927), JASA 22, p. 209.

    >>> tuple(round(x, 3) for x in wilson(8, 10))
    (0.49, 0.943)
    """
    if trials == 0:
        return (0.0, 1.0)
    p, square = successes / trials, z * z / trials
    centre, half = p + square / 2, z * math.sqrt(p * (1 - p) / trials + square / trials / 4)
    return (max(0.0, (centre - half) / (1 + square)), min(1.0, (centre + half) / (1 + square)))
