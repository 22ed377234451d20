"""Tree-GRPO: whole chains first, then new branches from random steps inside them."""

from ..advantages.inter_intra import InterIntraTree
from ..algorithm import Algorithm
from ..branching.expansion import RandomExpansion, per_tree_and_round
from ..losses.clip import ClipLoss
from ._parts import needs_for


def tree_grpo(*, rollouts: int = 6, roots: int = 2, rounds: int = 1, clip: float = 0.2, kl: float = 1e-3) -> Algorithm:
    """Returns Tree-GRPO: random steps of finished chains are expanded; leaves are compared within their tree and overall.

    Args:
        rollouts: M (1 + N·L), leaves per prompt; N, the steps expanded per tree and round, follows from it.
        roots: M, trees per prompt.
        rounds: L.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2509.21240, section 3.1, Eq. 6-8; M = 2, N = 2, L = 1. We never expand the prompt itself, which the
    authors' code may pick: a fresh chain could not be told apart from a tree of its own.
    """
    return Algorithm(
        name="tree_grpo",
        source="Tree-GRPO, arXiv 2509.21240, section 3.1, Eq. 6-8",
        branching=RandomExpansion(roots, per_tree_and_round(rollouts, roots, rounds)),
        rollouts=rollouts,
        advantages=InterIntraTree(),
        loss=ClipLoss(clip, clip, kl),
        needs=needs_for(kl),
    )
