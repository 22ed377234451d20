"""Soft attribution: every leaf carries its own advantage all along its path.

A shared token lies on several paths and so receives their sum; with equal importance ratios and no
clipping that is d times the mean, which hard attribution writes down explicitly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..tree import RolloutTree
from . import Credit, Scores, along_paths, sampled_weights
from .baseline import Baseline, leaf_advantages, require_comparison
from .group import Deviation


@dataclass(frozen=True)
class SoftAttribution:
    """ARPO's default, and plain GRPO where nothing but the prompt is shared.

    Args:
        shared_once: see `sampled_weights`; the paper counts a shared token once per path.
        baseline: what a leaf is compared with, see `Baseline`.
        deviation: what the difference is divided by, see `Deviation`; "none" is Dr. GRPO's.

    Raises:
        ConfigError: the two contradict each other.

    Source: ARPO (arXiv 2507.19849), section 3.2, Eq. 6 and 7.
    """

    shared_once: bool = False
    baseline: Baseline = "leaves"
    deviation: Deviation = "population"

    def __post_init__(self) -> None:
        """Checks what is compared."""
        require_comparison(self.baseline, self.deviation)

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages = tuple(along_paths(tree, leaf_advantages(tree, self.baseline, self.deviation)) for tree in trees)
        return Credit(advantages, tuple(sampled_weights(tree, shared_once=self.shared_once) for tree in trees))
