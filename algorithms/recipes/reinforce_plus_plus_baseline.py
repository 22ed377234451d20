"""REINFORCE++ with baseline: subtract the group's mean, divide by the batch's deviation."""

from ..advantages.whitened_group import WhitenedGroup
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.clip import ClipLoss
from ._parts import needs_for


def reinforce_plus_plus_baseline(*, rollouts: int = 8, clip: float = 0.2, kl: float = 1e-3) -> Algorithm:
    """Returns REINFORCE++ with baseline: the group's mean is subtracted, then the batch is whitened.

    Args:
        rollouts: M, rollouts per prompt.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy, in the loss (k2).

    Source: arXiv 2501.03262, the variant with baseline; rollouts and kl from the authors' scripts (OpenRLHF).
    """
    return Algorithm(
        name="reinforce_plus_plus_baseline",
        source="REINFORCE++ with baseline, arXiv 2501.03262",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=WhitenedGroup(),
        loss=ClipLoss(clip, clip, kl, estimator="k2"),
        needs=needs_for(kl),
    )
