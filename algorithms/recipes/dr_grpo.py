"""Dr. GRPO: GRPO without its two biases."""

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.clip import ClipLoss
from ._parts import needs_for


def dr_grpo(*, rollouts: int = 8, length: int = 3000, clip: float = 0.2, kl: float = 0.0) -> Algorithm:
    """Returns GRPO without its two biases: nothing is divided by a group's deviation or by a path's length.

    Args:
        rollouts: M, rollouts per prompt.
        length: tokens that every path's sum is divided by, whatever its own length; the authors use their length limit.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2503.20783, section 3.2: A = r − mean, and a constant in place of 1/|o|; 8 samples, at most 3000 tokens.
    """
    return Algorithm(
        name="dr_grpo",
        source="Dr. GRPO, arXiv 2503.20783, section 3.2",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=SoftAttribution(deviation="none"),
        loss=ClipLoss(clip, clip, kl),
        aggregation=length,
        needs=needs_for(kl),
    )
