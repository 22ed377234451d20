"""Controls for training runs: what must NOT help."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .tree import RolloutTree


def shuffle_rewards(trees: Sequence[RolloutTree], rng: np.random.Generator) -> list[RolloutTree]:
    """Returns the trees with their leaves' last rewards permuted over the whole batch.

    The rewards keep their distribution but say nothing about the rollouts they hang on: what a
    policy learns from them is noise. Paths that failed through no fault of the model take no part.
    """
    places = [(t, leaf) for t, tree in enumerate(trees) for leaf in tree.leaves() if _is_models(tree, leaf)]
    rewards = [trees[t].nodes[leaf].reward for t, leaf in places]
    order = rng.permutation(len(places))
    shuffled = [replace(tree, nodes=list(tree.nodes)) for tree in trees]
    for (t, leaf), source in zip(places, order, strict=True):
        shuffled[t].nodes[leaf] = replace(shuffled[t].nodes[leaf], reward=rewards[source])
    return shuffled


def _is_models(tree: RolloutTree, leaf: int) -> bool:
    status = tree.nodes[leaf].status
    return status is not None and status.is_model
