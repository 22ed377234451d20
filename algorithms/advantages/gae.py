"""Generalised advantage estimation: a value head predicts the return."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from . import Array, Credit, Scores, sampled_weights
from .paths import column, paid, to_go
from .whitening import whiten


def generalised_advantage(reward_T: Array, value_T: Array, sampled_T: Array, *, discount: float, trace: float) -> Array:
    """Returns A_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t, over the sampled tokens of one path; 0 elsewhere.

    Args:
        reward_T: [T] rewards; 0 where the policy did not sample.
        value_T: [T] value before each token; read only where the policy sampled it. After the last token it is 0.
        sampled_T: [T] whether the policy sampled the token; a tool result between two of them takes no time.
        discount: γ per sampled token.
        trace: λ.

    >>> paid, value, sampled = np.array([0.0, 0.0, 1.0]), np.array([0.5, 9.0, 0.25]), np.array([1.0, 0.0, 1.0])
    >>> generalised_advantage(paid, value, sampled, discount=1.0, trace=0.5).tolist()
    [0.125, 0.0, 0.75]
    """
    places = np.flatnonzero(sampled_T)
    after = np.append(value_T[places[1:]], 0.0)[: len(places)]
    delta_T = np.zeros_like(reward_T)
    delta_T[places] = reward_T[places] + discount * after - value_T[places]
    return to_go(delta_T, sampled_T, discount * trace)


@dataclass(frozen=True)
class GeneralisedAdvantage:
    """GAE along each leaf's path, whitened over the batch; the value head is trained towards A + V before whitening.

    Every path ends where its leaf does: no return is expected after a turn limit or a full context.

    Args:
        discount: γ.
        trace: λ.

    Raises:
        ConfigError: a number lies outside [0, 1], or the scores hold no values.

    Source: Schulman et al. (arXiv 1506.02438), Eq. 16; PPO (arXiv 1707.06347), Eq. 11 and 12.
    """

    discount: float = 1.0
    trace: float = 0.95
    compares = False

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 0.0 <= self.discount <= 1.0 or not 0.0 <= self.trace <= 1.0:
            raise ConfigError(f"discount and trace must lie in [0, 1], got {self.discount} and {self.trace}.")

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        if scores.values is None:
            raise ConfigError("Advantages from a value head need 'values' in the algorithm's `needs`.")
        weights = tuple(sampled_weights(tree) for tree in trees)
        raw, targets = [], []
        for tree, values in zip(trees, scores.values, strict=True):
            gains = tuple(self._along(tree, leaf, value_T) for leaf, value_T in zip(tree.leaves(), values, strict=True))
            raw.append(gains)
            targets.append(tuple(gain_T + value_T for gain_T, value_T in zip(gains, values, strict=True)))
        return Credit(whiten(raw, weights), weights, tuple(targets))

    def _along(self, tree: RolloutTree, leaf: int, value_T: Array) -> Array:
        sampled_T = column(tree, leaf, "sampled")
        return generalised_advantage(paid(tree, leaf), value_T, sampled_T, discount=self.discount, trace=self.trace)
