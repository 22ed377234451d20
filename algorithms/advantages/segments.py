"""Segment credit: how much a stretch between two forks changed the value of the path."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

from arpo_envs import ConfigError

from ..tree import RolloutTree
from . import Credit, Scores, sampled_weights, spread
from .node_values import along_nodes, node_values
from .paths import column


@dataclass(frozen=True)
class SegmentAdvantage:
    """A(segment) = V(its end) − V(the fork it follows), with V the mean of the branches' values from the leaves up.

    Every token counts once, however many paths it lies on, and only where the policy had a choice.

    Args:
        scale: "none", or "siblings": divided by the deviation of the values of the fork's branches.
        certain: tokens that were drawn with at least this probability get weight 0; 1 keeps all but those drawn with certainty.

    Raises:
        ConfigError: a value is out of range.

    Source: SPO (arXiv 2505.23564), tree-based segment advantage and probability mask.
    """

    scale: Literal["none", "siblings"] = "none"
    certain: float = 0.9

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.scale not in ("none", "siblings"):
            raise ConfigError(f'scale must be "none" or "siblings", got {self.scale!r}.')
        if not 0.0 < self.certain <= 1.0:
            raise ConfigError(f"certain must be a probability above 0, got {self.certain}.")

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages, weights = [], []
        for tree in trees:
            nodes = node_values(tree, over="branches")
            gain_N = nodes.value_N - nodes.value_N[nodes.fork_N]
            if self.scale == "siblings":
                gain_N = gain_N / (nodes.deviation_N[nodes.fork_N] + 1e-8)
            advantages.append(spread(tree, along_nodes(tree, gain_N)))
            pairs = zip(sampled_weights(tree, shared_once=True), tree.leaves(), strict=True)
            weights.append(tuple(w * (column(tree, leaf, "logprobs") < log(self.certain)) for w, leaf in pairs))
        return Credit(tuple(advantages), tuple(weights))
