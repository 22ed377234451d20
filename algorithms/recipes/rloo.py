"""RLOO: REINFORCE with the other rollouts of the prompt as baseline."""

from ..advantages.leave_one_out import LeaveOneOut
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.clip import ClipLoss
from ..losses.reinforce import ReinforceLoss
from ._parts import needs_for


def rloo(*, rollouts: int = 4, clip: float | None = None, kl: float = 0.0) -> Algorithm:
    """Returns RLOO: REINFORCE with the other rollouts of the prompt as baseline.

    Args:
        rollouts: M, rollouts per prompt; 2 or 4 in the paper.
        clip: ε of a surrogate in place of REINFORCE, for several steps on one batch; None for REINFORCE.
        kl: coefficient of a KL penalty to the initial policy, in the reward.

    Source: arXiv 2402.14740, section 3.2. A whole path is one action: its tokens are added up, not averaged. The paper's
    penalty coefficients depend on its reward models; we start from 0.
    """
    return Algorithm(
        name="rloo",
        source="RLOO, arXiv 2402.14740, section 3.2",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=LeaveOneOut(kl),
        loss=ReinforceLoss() if clip is None else ClipLoss(clip, clip),
        aggregation=1,
        needs=needs_for(kl),
    )
