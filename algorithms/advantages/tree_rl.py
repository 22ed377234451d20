"""Process credit from the tree: the value below a stretch of tokens, against the whole tree and the last fork."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tree import RolloutTree
from . import Credit, Scores, sampled_weights, spread
from .node_values import along_nodes, node_values


@dataclass(frozen=True)
class GlobalLocal:
    """R(s) = ((V(s) − V(root)) + (V(s) − V(parent))) / √(leaves below s).

    V is the mean reward of the leaves below; the parent of a stretch is the fork it follows. The square root
    partly makes up for counting a shared token once per path.

    Source: TreeRL (arXiv 2506.11902), section on process supervision from tree search: global and local advantage, and
    the reweighting of steps on several paths. The authors' code first replaces rewards by leave-one-out differences, which
    multiplies everything by n/(n − 1).
    """

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages = []
        for tree in trees:
            nodes = node_values(tree)
            gain_N = 2.0 * nodes.value_N - nodes.value_N[0] - nodes.value_N[nodes.fork_N]
            advantages.append(spread(tree, along_nodes(tree, gain_N / np.sqrt(np.maximum(nodes.leaves_N, 1)))))
        return Credit(tuple(advantages), tuple(sampled_weights(tree) for tree in trees))
