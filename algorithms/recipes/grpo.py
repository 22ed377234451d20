"""GRPO: independent rollouts, compared within their group."""

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching import NoBranching
from ..losses.clip import ClipLoss


def grpo(*, rollouts: int = 16, clip: float = 0.2, kl: float = 0.0) -> Algorithm:
    """Returns GRPO.

    Args:
        rollouts: M, rollouts per prompt.
        clip: ε of the surrogate.
        kl: coefficient of a penalty to the initial policy.

    Source: arXiv 2402.03300, section 4.1. We depart from it in the aggregation: token mean (as DAPO,
    arXiv 2503.14476, Eq. 8, and ARPO's code), so that the two algorithms differ in branching alone.
    """
    return Algorithm(
        name="grpo",
        source="GRPO, arXiv 2402.03300, section 4.1",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=SoftAttribution(),
        loss=ClipLoss(clip, clip, kl),
        needs=frozenset({"reference"}) if kl > 0 else frozenset(),
    )
