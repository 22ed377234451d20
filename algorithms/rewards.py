"""What happens to rewards before credit is assigned: terms are added, trees are left out; and a control.

`with_terms` adds what an algorithm wants besides the environment's reward; predicates for `Algorithm.keep` say which trees
to train on; `shuffle_rewards` is the control that must NOT help.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arpo_envs import ConfigError

from .advantages import rewards
from .advantages.rounding import are_equal
from .tree import RolloutTree

RewardTerm = Callable[[RolloutTree, int], float]
"""(tree, leaf) -> what is added to the reward of the leaf's path."""


def with_terms(trees: Sequence[RolloutTree], terms: Sequence[RewardTerm]) -> list[RolloutTree]:
    """Returns the trees with each leaf's reward changed by all terms; the trees given stay as they are."""
    if not terms:
        return list(trees)
    changed = [replace(tree, nodes=list(tree.nodes)) for tree in trees]
    for tree, copy in zip(trees, changed, strict=True):
        for leaf in tree.leaves():
            total = (tree.nodes[leaf].reward or 0.0) + sum(term(tree, leaf) for term in terms)
            copy.nodes[leaf] = replace(tree.nodes[leaf], reward=total)
    return changed


@dataclass(frozen=True)
class OverlongPenalty:
    """0 up to `longest − cache` tokens, then linearly to −1 at `longest`, and −1 beyond.

    Args:
        longest: L_max, in tokens that the policy sampled on a path.
        cache: L_cache, how many of the last of them the penalty grows over.

    Raises:
        ConfigError: `cache` is not above 0, or exceeds `longest`.

    Source: DAPO (arXiv 2503.14476), Eq. 13. Tool results do not count: the policy cannot shorten them.
    """

    longest: int
    cache: int

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 0 < self.cache <= self.longest:
            raise ConfigError(f"Need 0 < cache <= longest tokens; got cache = {self.cache}, longest = {self.longest}.")

    def __call__(self, tree: RolloutTree, leaf: int) -> float:
        """Returns the penalty of a path."""
        length = int(np.count_nonzero(tree.along(leaf, "sampled")))
        return -min(1.0, max(0.0, (length - (self.longest - self.cache)) / self.cache))


def unequal_rewards(tree: RolloutTree) -> bool:
    """Whether the valid leaves earned different rewards; a group of equals has no group-relative advantage.

    How many trees are dropped is the difference between the prompts of a step and its `kept_prompts`.
    """
    reward_L, valid_L = rewards(tree)
    return not are_equal(reward_L[valid_L])


def mixed_success(tree: RolloutTree) -> bool:
    """Whether some, but not all valid leaves succeeded: 0 < correct < G, by success and not by reward.

    A leaf whose success is unknown, since it ended without an answer, did not succeed. Where success is unknown of all leaves,
    as in an environment that does not report it, rewards decide.

    Source: DAPO (arXiv 2503.14476), Eq. 11, the constraint of dynamic sampling.
    """
    ends = [tree.nodes[leaf] for leaf in tree.leaves()]
    found = [end.success for end in ends if end.status is not None and end.status.is_model]
    if all(success is None for success in found):
        return unequal_rewards(tree)
    shares = [success or 0.0 for success in found]
    return max(shares) > min(shares)


def shuffle_rewards(trees: Sequence[RolloutTree], rng: np.random.Generator) -> list[RolloutTree]:
    """Returns the trees with their leaves' last rewards permuted over the whole batch.

    The rewards keep their distribution but tell nothing about the rollouts they belong to: what a
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
