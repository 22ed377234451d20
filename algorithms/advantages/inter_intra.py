"""Two comparisons added up: with all leaves of the prompt, and with the leaves of the same tree."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..tree import RolloutTree
from . import Credit, Scores, along_paths, sampled_weights
from .baseline import leaf_advantages


@dataclass(frozen=True)
class InterIntraTree:
    """A = A_inter + A_intra, both normalised by mean and deviation, all along the leaf's path.

    A tree is what grew from one root. Step-level differences arise where paths share a prefix: its tokens receive the sum.

    Source: Tree-GRPO (arXiv 2509.21240), Eq. 6 and 7. A tree of one leaf has A_intra = 0; the authors' code divides the
    bare reward by 1 there. The deviation is the population's, as everywhere here; theirs is the sample's.
    """

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages = [along_paths(tree, leaf_advantages(tree, "leaves") + leaf_advantages(tree, "tree")) for tree in trees]
        return Credit(tuple(advantages), tuple(sampled_weights(tree) for tree in trees))
