"""Soft attribution: every leaf carries its own advantage all along its path.

A shared token lies on several paths and so receives their sum; with equal importance ratios and no
clipping that is d times the mean, which hard attribution writes down explicitly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..tree import RolloutTree
from . import Credit, Scores, require_frozen, rewards, sampled_weights, spread
from .group import group_normalise


@dataclass(frozen=True)
class SoftAttribution:
    """ARPO's default, and plain GRPO where nothing but the prompt is shared.

    Args:
        shared_once: see `sampled_weights`; the paper counts a shared token once per path.

    Source: ARPO (arXiv 2507.19849), section 3.2, Eq. 6 and 7.
    """

    shared_once: bool = False

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages = []
        for tree in trees:
            require_frozen(tree)
            advantage_L = group_normalise(*rewards(tree))
            value_LK = [[a] * len(tree.path(leaf)) for a, leaf in zip(advantage_L, tree.leaves(), strict=True)]
            advantages.append(spread(tree, value_LK))
        return Credit(tuple(advantages), tuple(sampled_weights(tree, shared_once=self.shared_once) for tree in trees))
