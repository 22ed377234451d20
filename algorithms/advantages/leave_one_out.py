"""Leave-one-out: a rollout against the mean of the others, divided by nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..losses import require_kl
from ..tree import RolloutTree
from . import Array, Credit, Scores, along_paths, require_frozen, rewards, sampled_weights
from .group import group_normalise
from .penalties import kl_penalties


def leave_one_out(reward_L: Array, valid_L: NDArray[np.bool_]) -> Array:
    """Returns r_i minus the mean of the other valid rewards, which is n/(n − 1)·(r_i − mean); 0 where there is no other.

    Args:
        reward_L: [L] total rewards.
        valid_L: [L] which leaves count.

    >>> leave_one_out(np.array([1.0, 0.0, 2.0]), np.ones(3, dtype=bool)).tolist()
    [0.0, -1.5, 1.5]
    """
    count = int(valid_L.sum())
    return group_normalise(reward_L, valid_L, deviation="none") * count / max(1, count - 1)


@dataclass(frozen=True)
class LeaveOneOut:
    """An unbiased baseline: the other rollouts of the prompt do not depend on this one.

    Args:
        kl: β of the penalty in the reward, R − β Σ_t log(π/π_ref); 0 for none.

    Raises:
        ConfigError: kl is negative or not finite.

    Source: RLOO (arXiv 2402.14740), section 3.2; the penalty, Eq. 2.
    """

    kl: float = 0.0

    def __post_init__(self) -> None:
        """Checks the coefficient."""
        require_kl(self.kl)

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages = []
        for t, tree in enumerate(trees):
            require_frozen(tree)
            reward_L, valid_L = rewards(tree)
            if self.kl > 0.0:
                reward_L = reward_L + [penalty_T.sum() for penalty_T in kl_penalties(tree, t, scores, self.kl)]
            advantages.append(along_paths(tree, leave_one_out(reward_L, valid_L)))
        return Credit(tuple(advantages), tuple(sampled_weights(tree) for tree in trees))
