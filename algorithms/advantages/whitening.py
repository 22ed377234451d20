"""Whitening over the whole batch: mean 0 and deviation 1 over every token that counts, whatever its prompt."""

from collections.abc import Sequence

import numpy as np

from . import Array
from .rounding import are_equal

PerTree = Sequence[Sequence[Array]]


def whiten(value: PerTree, weight: PerTree, *, epsilon: float = 1e-8) -> tuple[tuple[Array, ...], ...]:
    """Returns (x − mean) / √(var + epsilon), with mean and population variance over the batch's weighted tokens.

    Where all values that count are equal up to rounding, the result is 0.

    Args:
        value: [tree][leaf] -> [T].
        weight: the same shape; tokens of weight 0 do not count, and become 0.
        epsilon: added to the variance, as in verl.

    Source: REINFORCE++ (arXiv 2501.03262), the equation of global advantage normalisation.
    """
    values = [x for leaves in value for x in leaves]
    weights = [w for leaves in weight for w in leaves]
    value_I, weight_I = (np.concatenate(some) if some else np.zeros(0) for some in (values, weights))
    weight_I = np.where(np.isfinite(value_I), weight_I, 0.0)  # NaN and infinity stay, and do not spread
    value_I = np.where(weight_I > 0, value_I, 0.0)
    if are_equal(value_I[weight_I > 0]):
        return tuple(tuple(np.zeros_like(x) for x in leaves) for leaves in value)
    mean = np.average(value_I, weights=weight_I)
    deviation = np.sqrt(np.average((value_I - mean) ** 2, weights=weight_I) + epsilon)
    return tuple(
        tuple(np.where(w > 0, (x - mean) / deviation, 0.0) for x, w in zip(xs, ws, strict=True))
        for xs, ws in zip(value, weight, strict=True)
    )
