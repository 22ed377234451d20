"""What a leaf is compared with: all leaves, the leaves of its tree, or siblings first among themselves.

Leaves below a fork are not independent: where a path forked often, its prefix is over-represented among the leaves, and
a plain mean leans towards it. The mean of siblings' means does not: it estimates the value of the prompt however the forks
were decided, as long as no decision looked at anything later than its fork.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from arpo_envs import ConfigError

from ..tree import RolloutTree
from . import Array, require_frozen, rewards
from .group import Deviation, group_normalise

Baseline = Literal["leaves", "tree", "siblings"]
"""The mean that is subtracted: over all leaves of the prompt (as published), over the leaves of the same root, or over
siblings' means from the leaves up, so that a fork into copies changes nothing."""


def require_comparison(baseline: Baseline, deviation: Deviation) -> None:
    """Refuses unknown names, and names that do not go together.

    Raises:
        ConfigError: an unknown name, or a sample deviation over leaves of unequal weight.
    """
    if baseline not in ("leaves", "tree", "siblings"):
        raise ConfigError(f'baseline must be "leaves", "tree" or "siblings", got {baseline!r}.')
    if deviation not in ("population", "sample", "none"):
        raise ConfigError(f'deviation must be "population", "sample" or "none", got {deviation!r}.')
    if baseline == "siblings" and deviation == "sample":
        raise ConfigError('baseline="siblings" weights leaves, so deviation="sample" is not defined for it; use "population".')


def leaf_advantages(tree: RolloutTree, baseline: Baseline = "leaves", deviation: Deviation = "population") -> Array:
    """Returns the advantage of each leaf [L] over what it is compared with; 0 for leaves that tell nothing about the model.

    Args:
        tree: frozen.
        baseline: see `Baseline`; the deviation is taken over the same leaves with the same weights.
        deviation: see `Deviation`.
    """
    require_frozen(tree)
    reward_L, valid_L = rewards(tree)
    if baseline == "leaves":
        return group_normalise(reward_L, valid_L, deviation=deviation)
    if baseline == "siblings":
        return group_normalise(reward_L, valid_L, weight_L=sibling_weights(tree, valid_L), deviation=deviation)
    advantage_L = np.zeros_like(reward_L)
    root_L = root_of_leaves(tree)
    for root in np.unique(root_L):
        advantage_L += group_normalise(reward_L, valid_L & (root_L == root), deviation=deviation)
    return advantage_L


def root_of_leaves(tree: RolloutTree) -> NDArray[np.int64]:
    """Returns the first node after the prompt on each leaf's path [L]."""
    return np.array([tree.path(leaf)[1].node for leaf in tree.leaves()], dtype=np.int64)


def sibling_weights(tree: RolloutTree, valid_L: NDArray[np.bool_]) -> Array:
    """Returns how much each leaf counts in the mean of siblings' means, [L]; together 1 (0 if no leaf is valid).

    Args:
        tree: frozen.
        valid_L: [L] which leaves count; a child with none below it does not count as a sibling.
    """
    paths = [[node for node, _ in tree.path(leaf)] for leaf in tree.leaves()]
    counted_N = np.zeros(len(tree.nodes), dtype=np.bool_)
    for path, valid in zip(paths, valid_L, strict=True):
        counted_N[path] |= valid
    children_N = np.zeros(len(tree.nodes))
    for index in np.flatnonzero(counted_N):
        if index:
            children_N[tree.nodes[index].parent] += 1
    share_L = [np.prod(1.0 / children_N[path[:-1]]) if valid else 0.0 for path, valid in zip(paths, valid_L, strict=True)]
    return np.array(share_L, dtype=np.float64)
