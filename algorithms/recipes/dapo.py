"""DAPO: GRPO with a higher upper clip, a token mean, prompts that teach something, and a penalty for length."""

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.none import NoBranching
from ..losses.clip import ClipLoss
from ..rewards import OverlongPenalty, mixed_success


def dapo(
    *,
    rollouts: int = 16,
    low: float = 0.2,
    high: float = 0.28,
    overlong: tuple[int, int] | None = (20480, 4096),
    refills: int = 9,
) -> Algorithm:
    """Returns DAPO: clip-higher, dynamic sampling, token mean, overlong shaping, and no KL penalty.

    Args:
        rollouts: M, rollouts per prompt.
        low: ε of the lower clip bound, 1 − ε.
        high: ε of the upper clip bound, 1 + ε.
        overlong: the number of tokens at which a path loses 1 from its reward, and how many of the last of them the
            penalty grows over; None for no penalty.
        refills: how many more times a step may collect fresh prompts in place of those whose rollouts are all right or
            all wrong; the authors' script stops after 10 collections.

    Source: arXiv 2503.14476, Eq. 8 (loss), 10 (clip-higher), 11 (dynamic sampling), 13 (overlong shaping); section 4.1.
    """
    return Algorithm(
        name="dapo",
        source="DAPO, arXiv 2503.14476, Eq. 8-13",
        branching=NoBranching(),
        rollouts=rollouts,
        advantages=SoftAttribution(),
        loss=ClipLoss(low, high),
        keep=mixed_success,
        refills=refills,
        reward_terms=(OverlongPenalty(*overlong),) if overlong is not None else (),
    )
