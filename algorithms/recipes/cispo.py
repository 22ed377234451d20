"""CISPO: bounded importance weights instead of clipped tokens."""

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.cispo import ClippedWeightLoss
from ._parts import needs_for


def cispo(*, rollouts: int = 16, cap: float = 5.0, floor: float = 0.0, kl: float = 0.0) -> Algorithm:
    """Returns CISPO: importance weights are bounded, and no token loses its gradient.

    Args:
        rollouts: M, rollouts per prompt.
        cap: largest weight. The authors do not state theirs; 5 is ScaleRL's (arXiv 2510.13786).
        floor: smallest weight; 0 for none, as published.
        kl: coefficient of a KL penalty to the initial policy.

    Source: MiniMax-M1, arXiv 2506.13585, Eq. 4-5.
    """
    return Algorithm(
        name="cispo",
        source="CISPO, MiniMax-M1, arXiv 2506.13585, Eq. 4-5",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=SoftAttribution(),
        loss=ClippedWeightLoss(cap, floor, kl),
        needs=needs_for(kl),
    )
