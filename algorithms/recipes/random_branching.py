"""The control for ARPO: the same tree with coin tosses instead of entropy."""

from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching import RandomBranching
from ..losses.clip import ClipLoss


def random_branching(
    *, rollouts: int = 16, roots: int = 8, siblings: int = 1, probability: float = 0.5, clip: float = 0.2, kl: float = 0.0
) -> Algorithm:
    """Returns ARPO's tree with forks drawn blindly.

    Args:
        rollouts: M, leaves per prompt.
        roots: N, rollouts that start from the prompt.
        siblings: Z, paths added by one fork.
        probability: of a fork after each tool result; ARPO's alpha.
        clip: ε of the surrogate.
        kl: coefficient of a penalty to the initial policy.

    Source: the ablation that ARPO (arXiv 2507.19849) does not report.
    """
    return Algorithm(
        name="random_branching",
        source="control for ARPO, arXiv 2507.19849: beta = 0",
        branching=RandomBranching(roots, probability, siblings),
        rollouts=rollouts,
        advantages=SoftAttribution(),
        loss=ClipLoss(clip, clip, kl),
        needs=frozenset({"reference"}) if kl > 0 else frozenset(),
    )
