"""GiGPO: step-level credit from states that several rollouts pass through."""

from ..advantages.gigpo import GroupInGroup
from ..advantages.group import Deviation
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.clip import ClipLoss
from ._parts import needs_for


def gigpo(
    *,
    rollouts: int = 8,
    step_weight: float = 1.0,
    discount: float = 0.95,
    deviation: Deviation = "none",
    clip: float = 0.2,
    kl: float = 0.01,
) -> Algorithm:
    """Returns GiGPO: compares episodes, and also actions taken in the same state (the environment's `anchor`).

    Args:
        rollouts: M, rollouts per prompt.
        step_weight: ω, weight of the step-level advantage.
        discount: γ per step.
        deviation: "none" or "population", what both advantages are divided by.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2505.10978, Eq. 3-9; numbers from its appendix. In an environment whose states never recur this is GRPO
    without its deviation.
    """
    return Algorithm(
        name="gigpo",
        source="GiGPO, arXiv 2505.10978, Eq. 3-9",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=GroupInGroup(step_weight, discount, deviation),
        loss=ClipLoss(clip, clip, kl),
        needs=needs_for(kl),
    )
