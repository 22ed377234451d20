"""Hard attribution: a token has the mean advantage of all valid leaves below it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tree import RolloutTree
from . import Credit, Scores, rewards, sampled_weights, spread
from .baseline import Baseline, leaf_advantages, require_comparison
from .group import Deviation


@dataclass(frozen=True)
class HardAttribution:
    """Private tokens keep their leaf's advantage, a shared token gets A = (1/d) Σ A_i over its d leaves.

    Args:
        shared_once: see `sampled_weights`.
        baseline: what a leaf is compared with, see `Baseline`.
        deviation: what the difference is divided by, see `Deviation`.

    Raises:
        ConfigError: the two contradict each other.

    Source: ARPO (arXiv 2507.19849), section 3.2, the unnumbered equation of "hard advantage
    estimation"; the reference implementation has no code for it.
    """

    shared_once: bool = False
    baseline: Baseline = "leaves"
    deviation: Deviation = "population"

    def __post_init__(self) -> None:
        """Checks what is compared."""
        require_comparison(self.baseline, self.deviation)

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages = []
        for tree in trees:
            advantage_L = leaf_advantages(tree, self.baseline, self.deviation)
            _, valid_L = rewards(tree)
            paths = [[node for node, _ in tree.path(leaf)] for leaf in tree.leaves()]
            total_N, count_N = np.zeros(len(tree.nodes)), np.zeros(len(tree.nodes))
            for path, advantage, valid in zip(paths, advantage_L, valid_L, strict=True):
                total_N[path] += advantage
                count_N[path] += valid
            mean_N = total_N / np.maximum(count_N, 1.0)
            advantages.append(spread(tree, [mean_N[path].tolist() for path in paths]))
        return Credit(tuple(advantages), tuple(sampled_weights(tree, shared_once=self.shared_once) for tree in trees))
