"""GRPO with a median: one lucky rollout does not make all others look bad."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algorithms import Algorithm, RolloutTree
from algorithms.advantages import Credit, Scores, along_paths, rewards, sampled_weights
from algorithms.branching import NoBranching
from algorithms.losses.clip import ClipLoss


@dataclass(frozen=True)
class AboveMedian:
    """A rollout's reward minus the median of its group, over the mean distance from that median."""

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        advantages = []
        for tree in trees:
            reward_L, valid_L = rewards(tree)
            above_L = np.where(valid_L, reward_L - (np.median(reward_L[valid_L]) if valid_L.any() else 0.0), 0.0)
            distance = np.abs(above_L[valid_L]).mean() if valid_L.any() else 0.0
            advantages.append(along_paths(tree, above_L / distance if distance > 0.0 else above_L))
        return Credit(tuple(advantages), tuple(sampled_weights(tree) for tree in trees))


def median_grpo(*, rollouts: int = 8, clip: float = 0.2) -> Algorithm:
    """Returns GRPO with the group's median for a baseline.

    Args:
        rollouts: M, rollouts per prompt.
        clip: ε of the surrogate.

    Source: GRPO, arXiv 2402.03300; the median is this package's own.
    """
    return Algorithm("median_grpo", "sample-plugin", NoBranching(), rollouts, AboveMedian(), ClipLoss(clip, clip))
