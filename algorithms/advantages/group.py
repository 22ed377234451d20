"""Group-relative advantage: how much better a rollout did than its siblings of the same prompt."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import Array
from .rounding import are_equal

Deviation = Literal["population", "sample", "none"]
"""What a centred reward is divided by: the standard deviation with n or with n − 1 in its denominator, or nothing."""


def group_normalise(
    reward_L: Array,
    valid_L: NDArray[np.bool_],
    *,
    weight_L: Array | None = None,
    deviation: Deviation = "population",
    epsilon: float = 1e-6,
) -> Array:
    """Returns (r − mean) / (std + epsilon) over the valid leaves of one prompt.

    Args:
        reward_L: [L] total rewards.
        valid_L: [L] which leaves count; the others get 0 and do not enter the mean and deviation.
        weight_L: [L] how much each leaf counts in mean and deviation, at least 0; all the same if left out.
        deviation: see `Deviation`; "sample" takes no weights.
        epsilon: added to the standard deviation, in units of reward.

    Returns:
        [L] advantages. All zero where all rewards are equal up to rounding: such a group teaches nothing.

    Raises:
        ValueError: the shapes differ, or weights were given for the sample deviation.

    Source: GRPO (arXiv 2402.03300), section 4.1.2; the population standard deviation.

    >>> group_normalise(np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4, dtype=bool)).round(3).tolist()
    [1.0, -1.0, -1.0, 1.0]
    """
    if reward_L.shape != valid_L.shape or reward_L.ndim != 1:
        raise ValueError(f"Expected two vectors of one length, got {reward_L.shape} and {valid_L.shape}.")
    if weight_L is not None and deviation == "sample":
        raise ValueError("The sample deviation is defined only for leaves of equal weight; use 'population'.")
    counted = reward_L[valid_L]
    advantage_L = np.zeros_like(reward_L)
    if are_equal(counted):
        return advantage_L
    weight = np.ones_like(counted) if weight_L is None else weight_L[valid_L]
    centred = counted - np.average(counted, weights=weight)
    scale = 1.0
    if deviation != "none":
        bessel = len(counted) / (len(counted) - 1) if deviation == "sample" else 1.0
        scale = float(np.sqrt(bessel * np.average(centred**2, weights=weight))) + epsilon
    advantage_L[valid_L] = centred / scale
    return advantage_L
