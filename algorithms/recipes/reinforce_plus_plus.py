"""REINFORCE++: no critic and no group; the batch is the baseline."""

from ..advantages.token_returns import TokenReturns
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.clip import ClipLoss
from ._parts import needs_for


def reinforce_plus_plus(*, rollouts: int = 1, discount: float = 1.0, clip: float = 0.2, kl: float = 1e-3) -> Algorithm:
    """Returns REINFORCE++: token returns with a KL penalty in the reward, whitened over the batch.

    Args:
        rollouts: M, rollouts per prompt; they are not compared with each other.
        discount: γ per token.
        clip: ε of the surrogate.
        kl: coefficient of the penalty to the initial policy, in every token's reward (k1).

    Source: arXiv 2501.03262; kl from the authors' scripts (OpenRLHF).
    """
    return Algorithm(
        name="reinforce_plus_plus",
        source="REINFORCE++, arXiv 2501.03262",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=TokenReturns(discount, kl),
        loss=ClipLoss(clip, clip),
        needs=needs_for(kl),
    )
