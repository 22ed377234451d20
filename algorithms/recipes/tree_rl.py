"""TreeRL: forks at the least certain tokens, credit from the values of the tree."""

from typing import Literal

from ..advantages.tree_rl import GlobalLocal
from ..algorithm import Algorithm
from ..branching.entropy_tree import EntropyTree
from ..branching.expansion import per_tree_and_round
from ..losses.reinforce import ReinforceLoss
from ._parts import needs_for


def tree_rl(
    *,
    rollouts: int = 30,
    roots: int = 6,
    rounds: int = 1,
    siblings: int = 2,
    uncertainty: Literal["surprisal", "entropy"] = "surprisal",
    kl: float = 0.0,
) -> Algorithm:
    """Returns TreeRL with EPTree: forks inside actions at the least certain tokens, global and local advantage.

    Args:
        rollouts: M (1 + N·T·L), leaves per prompt; N, the tokens forked per tree and round, follows from it.
        roots: M, chains per prompt.
        rounds: L.
        siblings: T, paths added at each token.
        uncertainty: "surprisal" of the token drawn, or "entropy" of the distribution it was drawn from.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2506.11902, (M, N, L, T) = (6, 2, 1, 2). The authors' code may fork a token again in a later round and
    never forks after the word "answer"; we do neither. We do not know their penalty coefficient; we start from 0.
    """
    return Algorithm(
        name="tree_rl",
        source="TreeRL (EPTree), arXiv 2506.11902",
        branching=EntropyTree(roots, per_tree_and_round(rollouts, roots, rounds, siblings), siblings, uncertainty),
        rollouts=rollouts,
        advantages=GlobalLocal(),
        loss=ReinforceLoss(kl),
        needs=needs_for(kl),
    )
