"""What a place in the tree is worth: the mean of what was earned below it, and which fork it follows."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..tree import RolloutTree
from . import Array, require_frozen, rewards
from .rounding import snapped, tolerance


@dataclass(frozen=True)
class NodeValues:
    """Monte-Carlo values of a frozen tree; nodes without a valid leaf below them have value 0 and count 0.

    Args:
        value_N: [N] mean total reward below each node.
        leaves_N: [N] how many valid leaves lie below it, itself included.
        fork_N: [N] the last node above it at which several valid paths part, the prompt if none; 0 for the prompt too.
        deviation_N: [N] standard deviation of the values of a fork's branches; 0 elsewhere.
    """

    value_N: Array
    leaves_N: NDArray[np.int64]
    fork_N: NDArray[np.int64]
    deviation_N: Array


def node_values(tree: RolloutTree, over: Literal["leaves", "branches"] = "leaves") -> NodeValues:
    """Returns the value of every node, from the leaves up.

    Args:
        tree: frozen.
        over: what is averaged at a fork: all "leaves" below it, or its "branches", each counted once.
    """
    require_frozen(tree)
    reward_L, valid_L = rewards(tree)
    size = len(tree.nodes)
    total_N, leaves_N = np.zeros(size), np.zeros(size, dtype=np.int64)
    pivot = reward_L[valid_L][0] if valid_L.any() else 0.0  # sums of differences: equal rewards give equal values exactly
    for leaf, reward, valid in zip(tree.leaves(), reward_L, valid_L, strict=True):
        total_N[leaf], leaves_N[leaf] = (reward - pivot) * valid, valid
    rounding = tolerance(reward_L[valid_L])
    children: list[list[int]] = [[] for _ in range(size)]
    value_N, deviation_N = np.zeros(size), np.zeros(size)
    for i in range(size - 1, -1, -1):  # children come after their parents
        branches = [value_N[c] for c in children[i]] + [total_N[i]] * int(leaves_N[i] > 0 and not children[i])
        for c in children[i]:
            total_N[i] += total_N[c]
            leaves_N[i] += leaves_N[c]
        if leaves_N[i]:
            value_N[i] = total_N[i] / leaves_N[i] if over == "leaves" else np.mean(branches)
            deviation_N[i] = 0.0 if np.ptp(branches) <= rounding else np.std(branches)
            if i:
                children[tree.nodes[i].parent].append(i)
    fork_N = np.zeros(size, dtype=np.int64)
    for i in range(1, size):
        above = tree.nodes[i].parent
        fork_N[i] = above if above == 0 or len(children[above]) > 1 else fork_N[above]
    return NodeValues(np.where(leaves_N > 0, snapped(value_N + pivot), 0.0), leaves_N, fork_N, deviation_N)


def along_nodes(tree: RolloutTree, value_N: Array) -> list[list[float]]:
    """Returns for each leaf one number per node of its path, as `spread` takes them."""
    return [[float(value_N[node]) for node, _ in tree.path(leaf)] for leaf in tree.leaves()]
