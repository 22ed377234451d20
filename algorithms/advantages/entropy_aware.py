"""Entropy-aware advantage: tokens drawn under uncertainty weigh more, certain ones less."""

from collections.abc import Sequence
from dataclasses import dataclass

from arpo_envs import ConfigError

from ..tree import RolloutTree
from . import Credit, Scores, along_paths, sampled_weights
from .baseline import leaf_advantages
from .paths import column
from .whitening import whiten


@dataclass(frozen=True)
class EntropyAware:
    """A_t = A (1 + a·(H_t − mean H)/std H): soft attribution, shaped by the entropy the token was drawn with.

    Args:
        shape: a.

    Raises:
        ConfigError: a is negative.

    Source: AEPO (arXiv 2510.14545), entropy-aware advantage estimation. Mean and deviation are over the tokens of a
    prompt's paths; the authors' code takes those of a micro-batch, so its result depends on memory settings.
    """

    shape: float = 0.2

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.shape < 0.0:
            raise ConfigError(f"The weight of entropies must not be negative, got {self.shape}.")

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        weights = tuple(sampled_weights(tree) for tree in trees)
        advantages = []
        for tree, weight in zip(trees, weights, strict=True):
            entropies = [column(tree, leaf, "entropies") for leaf in tree.leaves()]
            surprise = whiten([entropies], [weight])[0]
            flat = along_paths(tree, leaf_advantages(tree))
            advantages.append(tuple(a * (1.0 + self.shape * s) for a, s in zip(flat, surprise, strict=True)))
        return Credit(tuple(advantages), weights)
