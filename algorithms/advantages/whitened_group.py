"""Group baseline, batch scale: a reward against its group's mean, whitened over the batch instead of its group."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..tree import RolloutTree
from . import Credit, Scores, along_paths, sampled_weights
from .baseline import leaf_advantages
from .whitening import whiten


@dataclass(frozen=True)
class WhitenedGroup:
    """r_i − mean of the group, along the path, then whitened over all tokens of the batch.

    An easy prompt's small differences stay small: only the batch decides what counts as large.

    Source: REINFORCE++ with baseline (arXiv 2501.03262), section on reasoning tasks.
    """

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        weights = tuple(sampled_weights(tree) for tree in trees)
        centred = [along_paths(tree, leaf_advantages(tree, deviation="none")) for tree in trees]
        return Credit(whiten(centred, weights), weights)
