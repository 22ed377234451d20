"""Reward terms: what an algorithm adds to the environment's reward, per path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arpo_envs import ConfigError

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
        longest: L_max, tokens that the policy sampled on a path.
        cache: L_cache, the last of them, over which the penalty grows.

    Raises:
        ConfigError: the cache is empty or longer than what it is part of.

    Source: DAPO (arXiv 2503.14476), Eq. 13. Tool results do not count: they are not the policy's to shorten.
    """

    longest: int
    cache: int

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 0 < self.cache <= self.longest:
            raise ConfigError(f"Need 0 < cache <= longest tokens; got cache = {self.cache}, longest = {self.longest}.")

    def __call__(self, tree: RolloutTree, leaf: int) -> float:
        """Returns the penalty of a path."""
        length = sum(sum(tree.nodes[node].sampled[:stop]) for node, stop in tree.path(leaf))
        return -min(1.0, max(0.0, (length - (self.longest - self.cache)) / self.cache))
