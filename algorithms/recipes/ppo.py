"""PPO: a value head predicts the return to expect at every token."""

from ..advantages.gae import GeneralisedAdvantage
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.clip import ClipLoss
from ..losses.value import ValueLoss
from ._parts import needs_for


def ppo(
    *,
    rollouts: int = 1,
    discount: float = 1.0,
    trace: float = 0.95,
    clip: float = 0.2,
    value_coefficient: float = 0.5,
    value_range: float | None = 0.2,
    kl: float = 0.0,
) -> Algorithm:
    """Returns PPO with a value head and generalised advantages; rollouts are not compared with each other.

    Args:
        rollouts: M, rollouts per prompt.
        discount: γ per token.
        trace: λ.
        clip: ε of the surrogate.
        value_coefficient: weight of the value head's error in the loss.
        value_range: how far a value may move from its old value until moving further gains nothing; None for no limit.
        kl: coefficient of a KL penalty to the initial policy, in the loss.

    Source: arXiv 1707.06347, Eq. 7-12; GAE, arXiv 1506.02438, Eq. 16. γ = 1 as is usual for text: a token takes no time.
    """
    return Algorithm(
        name="ppo",
        source="PPO, arXiv 1707.06347, Eq. 7-12; GAE, arXiv 1506.02438",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=GeneralisedAdvantage(discount, trace),
        loss=ValueLoss(ClipLoss(clip, clip, kl), value_coefficient, value_range),
        needs=needs_for(kl) | {"values"},
    )
