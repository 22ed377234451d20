"""GSPO: importance ratios, clips and rewards all belong to whole sequences."""

from typing import Literal

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.gspo import SequenceClipLoss
from ._parts import needs_for


def gspo(
    *,
    rollouts: int = 16,
    level: Literal["sequence", "token"] = "sequence",
    low: float = 3e-4,
    high: float = 4e-4,
    kl: float = 0.0,
) -> Algorithm:
    """Returns GSPO: a path is clipped as a whole, by the geometric mean of its tokens' ratios.

    Args:
        rollouts: M, rollouts per prompt.
        level: "sequence", or "token" for GSPO-token, which takes advantages per token; with GRPO's the two are equal.
        low: ε of the lower clip bound, 1 − ε.
        high: ε of the upper clip bound, 1 + ε.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2507.18071, Eq. 5-7 and 13-14; both ε from section 5.1.
    """
    return Algorithm(
        name="gspo",
        source="GSPO, arXiv 2507.18071, Eq. 5-7, 13-14",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=SoftAttribution(),
        loss=SequenceClipLoss(low, high, kl, level),
        aggregation="sequence",
        needs=needs_for(kl),
    )
