"""A leaf against every group it belongs to: all leaves, those below its first fork, those below its second, and so on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from . import Array, Credit, Scores, along_paths, rewards, sampled_weights
from .node_values import node_values
from .whitening import whiten


@dataclass(frozen=True)
class Subgroups:
    """Mean over the forks f above a leaf of r − mean reward below f, all along its path, then whitened over the batch.

    Args:
        weigh: "equal": every fork counts the same; "size": as many times as it has leaves.

    Raises:
        ConfigError: `weigh` is unknown.

    Source: TreePO (arXiv 2508.17445), section on tree-based advantage estimation. Groups of one leaf are left out there
    too. In the authors' code a segment at which nothing forked repeats the group above it; here each group counts once.
    """

    weigh: Literal["equal", "size"] = "equal"

    def __post_init__(self) -> None:
        """Checks the name."""
        if self.weigh not in ("equal", "size"):
            raise ConfigError(f'weigh must be "equal" or "size", got {self.weigh!r}.')

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        weights = tuple(sampled_weights(tree) for tree in trees)
        return Credit(whiten([along_paths(tree, self._per_leaf(tree)) for tree in trees], weights), weights)

    def _per_leaf(self, tree: RolloutTree) -> Array:
        nodes = node_values(tree)
        reward_L, valid_L = rewards(tree)
        advantage_L = np.zeros_like(reward_L)
        for position, leaf in enumerate(tree.leaves()):
            forks = sorted({int(nodes.fork_N[node]) for node, _ in tree.path(leaf)[1:]})
            share = nodes.leaves_N[forks] if self.weigh == "size" else np.ones(len(forks))
            if valid_L[position]:
                advantage_L[position] = np.average(reward_L[position] - nodes.value_N[forks], weights=share)
        return advantage_L
