"""Advantage estimators: pure functions from frozen trees to credit, one estimator per file.

To add one, write a function `(trees, scores) -> Credit` in a file here and name it in a recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arpo_envs import members

from ..tree import RolloutTree
from .rounding import snapped

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What the learner computed for the estimators and the loss; each is [tree][leaf] -> [T] or None.

    Args:
        reference: log-probabilities of the path's tokens under the frozen reference model, nats.
        values: for each token of the path, the return that the value head expects before that token, in units of
            reward; like the token's log-probability, it is computed at the preceding token. Read only where the
            policy sampled the token.
    """

    reference: tuple[tuple[Array, ...], ...] | None = None
    values: tuple[tuple[Array, ...], ...] | None = None


@dataclass(frozen=True)
class Credit:
    """One advantage and one weight for every token of every leaf's path.

    Args:
        advantages: [tree][leaf] -> [T]; leaves in the order of `RolloutTree.leaves`.
        weights: the same shape, at least 0; how much a token counts in the loss. 0 where the policy did
            not sample, and on paths that failed through no fault of the model.
        returns: the same shape, the value head's targets, in units of reward; None without a value head.
    """

    advantages: tuple[tuple[Array, ...], ...]
    weights: tuple[tuple[Array, ...], ...]
    returns: tuple[tuple[Array, ...], ...] | None = None


COMPARES: members.Member[bool] = members.Member("compares", True)
"""Whether an estimator compares rollouts of a prompt, so that one alone would teach nothing."""
DISCOUNT: members.Member[float] = members.Member("discount", 1.0)
"""The factor by which an estimator discounts what comes one step later."""


class AdvantageEstimator(Protocol):
    """Sees the whole batch, because some estimators whiten over it.

    An estimator that can also give credit to a single rollout has the attribute `compares = False`.
    """

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token."""
        ...


def require_frozen(tree: RolloutTree) -> None:
    """Refuses a tree that may still grow or has forks inside its nodes.

    Raises:
        ValueError: the tree is not frozen.
    """
    if not tree.frozen:
        raise ValueError("Estimators see frozen trees only; call tree.freeze() first.")


def rewards(tree: RolloutTree) -> tuple[Array, NDArray[np.bool_]]:
    """Returns the total reward of each leaf [L], and whether the leaf tells something about the model [L].

    Rewards that differ only through the order in which they were added up become the same number.
    """
    leaves = tree.leaves()
    reward_L = np.array([tree.total_reward(leaf) for leaf in leaves], dtype=np.float64)
    statuses = [tree.nodes[leaf].status for leaf in leaves]
    valid_L = np.array([status is not None and status.is_model for status in statuses], dtype=np.bool_)
    paid = [sum(abs(tree.nodes[node].reward or 0.0) for node, _ in tree.path(leaf)) for leaf in leaves]
    largest = max((one for one, valid in zip(paid, valid_L, strict=True) if valid), default=0.0)
    reward_L[valid_L] = snapped(reward_L[valid_L], largest)
    return reward_L, valid_L


def spread(tree: RolloutTree, value_LD: Sequence[Sequence[float]]) -> tuple[Array, ...]:
    """Lifts one number per (leaf, node of its path) to one per token of the path.

    Args:
        tree: frozen.
        value_LD: for each leaf, one number per node of its path, the prompt included.

    Returns:
        For each leaf, [T].

    Raises:
        ValueError: the tree is not frozen, or a row has the wrong length.
    """
    require_frozen(tree)
    spreads = []
    for leaf, value_D in zip(tree.leaves(), value_LD, strict=True):
        lengths_D = [stop for _, stop in tree.path(leaf)]
        if len(lengths_D) != len(value_D):
            raise ValueError(f"Leaf {leaf} has {len(lengths_D)} nodes on its path, got {len(value_D)} numbers.")
        spreads.append(np.repeat(np.asarray(value_D, dtype=np.float64), lengths_D))
    return tuple(spreads)


def along_paths(tree: RolloutTree, value_L: Sequence[float] | Array) -> tuple[Array, ...]:
    """Lifts one number per leaf to one per token, the same all along the leaf's path."""
    return spread(tree, [[float(value)] * len(tree.path(leaf)) for value, leaf in zip(value_L, tree.leaves(), strict=True)])


def sampled_weights(tree: RolloutTree, *, shared_once: bool = False) -> tuple[Array, ...]:
    """Returns weight 1 for every sampled token of a valid path, 0 elsewhere.

    Args:
        tree: frozen.
        shared_once: give a token that lies on d valid paths the weight 1/d in each of them, so that
            it counts once in all; otherwise it counts d times, as in the paper.
    """
    _, valid_L = rewards(tree)
    paths = [[node for node, _ in tree.path(leaf)] for leaf in tree.leaves()]
    count_N = np.zeros(len(tree.nodes))
    for path, valid in zip(paths, valid_L, strict=True):
        count_N[path] += valid
    weight_LD = [[1.0 / count_N[n] if shared_once else 1.0 for n in path] if valid else [0.0] * len(path)
                 for path, valid in zip(paths, valid_L, strict=True)]  # fmt: skip
    sampled = [np.concatenate([np.asarray(tree.nodes[n].sampled, dtype=np.float64) for n in path]) for path in paths]
    return tuple(weight_T * sampled_T for weight_T, sampled_T in zip(spread(tree, weight_LD), sampled, strict=True))
