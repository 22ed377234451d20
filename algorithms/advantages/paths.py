"""A leaf's path token by token: what was stored, what was paid, and what is still to come."""

from typing import Literal

import numpy as np

from ..tree import RolloutTree
from . import Array, require_frozen


def column(tree: RolloutTree, leaf: int, name: Literal["logprobs", "entropies", "sampled"]) -> Array:
    """Returns what the nodes store per token, along a path, [T]."""
    values = [value for node, stop in tree.path(leaf) for value in getattr(tree.nodes[node], name)[:stop]]
    return np.array(values, dtype=np.float64)


def paid(tree: RolloutTree, leaf: int) -> Array:
    """Returns the rewards along a path, [T]: what an action earned, at the action's last token.

    What an action without tokens earned (a forfeit) is paid at the last token sampled before it, or lost if there is none.
    """
    require_frozen(tree)
    rewards: list[float] = []
    sampled: list[bool] = []
    for node, stop in tree.path(leaf):
        rewards += [0.0] * stop
        sampled += tree.nodes[node].sampled[:stop]
        place = next((t for t in range(len(sampled) - 1, -1, -1) if sampled[t]), None)
        if tree.nodes[node].reward is not None and place is not None:
            rewards[place] += float(tree.nodes[node].reward or 0.0)
    return np.array(rewards, dtype=np.float64)


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
