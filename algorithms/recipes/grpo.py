"""GRPO: independent rollouts, compared within their group."""

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.aggregation import Aggregation
from ._parts import clipped


def grpo(
    *,
    rollouts: int = 16,
    aggregation: Aggregation = "token",
    skip_equal: bool = False,
    clip: float = 0.2,
    kl: float = 0.0,
) -> Algorithm:
    """Returns GRPO: independent rollouts, compared within their group.

    Args:
        rollouts: M, rollouts per prompt.
        aggregation: "token", "sequence" (as in the paper), or a number of tokens to divide every path by.
        skip_equal: leave out prompts whose rollouts all earned the same, instead of counting their tokens in the mean.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2402.03300, section 4.1. We depart from it in the aggregation, a token mean (as DAPO, arXiv 2503.14476,
    Eq. 8, and ARPO's code), and in the numbers, 16 rollouts without a penalty (as in ARPO's comparison with it; the paper
    on mathematics has 64 and 0.04), so that the two algorithms differ in branching alone.
    """
    return clipped(
        "grpo",
        "GRPO, arXiv 2402.03300, section 4.1",
        NoBranching(),
        SoftAttribution(),
        rollouts=rollouts,
        aggregation=aggregation,
        skip_equal=skip_equal,
        clip=clip,
        kl=kl,
    )
