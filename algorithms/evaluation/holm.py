"""Several comparisons at once: what is left of each p if none of them may be wrong by chance."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values such that all below a level are significant together: no true null hypothesis is rejected more often.

    Args:
        p_values: of the comparisons, in any order.

    Returns:
        The adjusted ones in the same order: never smaller than before, never above 1.

    Raises:
        ValueError: one is not in [0, 1].

    Source: S. Holm (1979), Scandinavian Journal of Statistics 6, p. 65.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    if any(not 0.0 <= p <= 1.0 for p in p_values):
        raise ValueError(f"A p-value lies between 0 and 1, got {[*p_values]}.")
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
