"""A leaf's path token by token: what was stored, what was paid, and what is still to come."""

from typing import Literal

import numpy as np

from ..tree import RolloutTree
from . import Array, require_frozen


def column(tree: RolloutTree, leaf: int, name: Literal["logprobs", "entropies", "sampled"]) -> Array:
    """Returns what the nodes store per token, along a path, [T]."""
    return tree.along(leaf, name).astype(np.float64)


def paid(tree: RolloutTree, leaf: int) -> Array:
    """Returns the rewards along a path, [T]: what an action earned, at the action's last token.

    What an action without tokens earned (a forfeit) is paid at the last token sampled before it, or lost if there is none.
    """
    require_frozen(tree)
    reward_T, length = np.zeros(tree.length(leaf)), 0
    drawn = np.flatnonzero(tree.along(leaf, "sampled"))
    for node, stop in tree.path(leaf):
        length += stop
        before = np.searchsorted(drawn, length)
        if tree.nodes[node].reward is not None and before:
            reward_T[drawn[before - 1]] += float(tree.nodes[node].reward or 0.0)
    return reward_T


def to_go(reward_T: Array, sampled_T: Array, discount: float) -> Array:
    """Returns what is earned from each token on, [T]: R_t = r_t + γ R_{t+1}, a step being a sampled token.

    Args:
        reward_T: [T] rewards, 0 where the policy did not sample.
        sampled_T: [T] whether it did.
        discount: γ.

    >>> to_go(np.array([0.0, 0.0, 0.0, 8.0]), np.array([0.0, 1.0, 0.0, 1.0]), 0.5).tolist()
    [0.0, 4.0, 0.0, 8.0]
    """
    return_T, after = np.zeros_like(reward_T), 0.0
    for t in np.flatnonzero(sampled_T)[::-1]:
        after = return_T[t] = reward_T[t] + discount * after
    return return_T
