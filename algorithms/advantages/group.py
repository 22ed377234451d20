"""Group-relative advantage: how much better a rollout did than its siblings of the same prompt."""

import numpy as np
from numpy.typing import NDArray

from . import Array


def group_normalise(reward_L: Array, valid_L: NDArray[np.bool_], *, epsilon: float = 1e-6) -> Array:
    """Returns (r − mean) / (std + epsilon) over the valid leaves of one prompt.

    Args:
        reward_L: [L] total rewards.
        valid_L: [L] which leaves count; the others get 0 and do not enter mean and deviation.
        epsilon: added to the standard deviation, in units of reward.

    Returns:
        [L] advantages. All zero where all rewards are equal: such a group teaches nothing.

    Raises:
        ValueError: the shapes differ.

    Source: GRPO (arXiv 2402.03300), section 4.1.2; the population standard deviation.

    >>> group_normalise(np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4, dtype=bool)).round(3).tolist()
    [1.0, -1.0, -1.0, 1.0]
    """
    if reward_L.shape != valid_L.shape or reward_L.ndim != 1:
        raise ValueError(f"Expected two vectors of one length, got {reward_L.shape} and {valid_L.shape}.")
    counted = reward_L[valid_L]
    advantage_L = np.zeros_like(reward_L)
    if len(counted) and counted.max() > counted.min():
        advantage_L[valid_L] = (counted - counted.mean()) / (counted.std() + epsilon)
    return advantage_L
