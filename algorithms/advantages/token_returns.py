"""Token returns, whitened over the batch: REINFORCE with a KL penalty in every token's reward."""

from collections.abc import Sequence
from dataclasses import dataclass

from arpo_envs import ConfigError

from ..losses import require_kl
from ..tree import RolloutTree
from . import Credit, Scores, sampled_weights
from .paths import column, paid, to_go
from .penalties import kl_penalties
from .whitening import whiten


@dataclass(frozen=True)
class TokenReturns:
    """A_t = Σ_{s ≥ t} γ^{s−t} (r_s − β log(π/π_ref)_s), whitened over all tokens of the batch; no group is compared.

    Args:
        discount: γ per sampled token.
        kl: β; 0 for no penalty.

    Raises:
        ConfigError: the discount lies outside [0, 1], or kl is negative or not finite.

    Source: REINFORCE++ (arXiv 2501.03262), the token-level advantage and its global normalisation. Where the environment
    pays inside an episode, what was paid before a token is not credited to that token.
    """

    discount: float = 1.0
    kl: float = 0.0
    compares = False

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 0.0 <= self.discount <= 1.0:
            raise ConfigError(f"discount must lie in [0, 1], got {self.discount}.")
        require_kl(self.kl)

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        returns = []
        for t, tree in enumerate(trees):
            earned = [paid(tree, leaf) for leaf in tree.leaves()]
            if self.kl > 0.0:
                earned = [r_T + k_T for r_T, k_T in zip(earned, kl_penalties(tree, t, scores, self.kl), strict=True)]
            sampled = [column(tree, leaf, "sampled") for leaf in tree.leaves()]
            returns.append(tuple(to_go(r_T, s_T, self.discount) for r_T, s_T in zip(earned, sampled, strict=True)))
        weights = tuple(sampled_weights(tree) for tree in trees)
        return Credit(whiten(returns, weights), weights)
