"""Trees grown after the fact: whole paths first, then new ones from places inside them.

Source: Tree-GRPO (arXiv 2509.21240), section 3.1: M chains, then L rounds of N random steps per tree, rolled out to the end.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .strategy import BranchPoint, Grow, new_roots


@dataclass(frozen=True)
class RandomExpansion:
    """Each round continues every tree from random tool results of its own, drawn with replacement.

    Args:
        roots: M, chains that start from the prompt; each is the first path of a tree.
        picks: N, steps expanded per tree and round; the budget determines the number of rounds.

    Raises:
        ConfigError: a number is out of range.
    """

    roots: int
    picks: int = 2
    keeps: Literal["none", "action"] = "action"
    probe: int = 0
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.roots < 1 or self.picks < 1:
            raise ConfigError(f"roots and picks must be at least 1, got {self.roots} and {self.picks}.")

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the chains, then expands; for a chain without any tool result, fresh chains start instead."""
        if not tree.roots():
            return new_roots(tree, min(self.roots, left))
        plan, fresh = [], 0
        for members in list(nodes_by_root(tree).values())[: self.roots]:
            steps = [i for i in members if tree.nodes[i].kind == "observation"]
            if not steps:
                fresh += self.picks
                continue
            for step, count in sorted(Counter(int(rng.choice(steps)) for _ in range(self.picks)).items()):
                plan.append(Grow(step, len(tree.nodes[step].tokens), count))
        return plan + new_roots(tree, fresh)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Never forks while a path runs."""
        return 0


def nodes_by_root(tree: RolloutTree) -> dict[int, list[int]]:
    """Returns for each root's ordinal the nodes below it, itself included, all in order of their keys, not of arrival."""
    members: dict[int, list[int]] = {}
    for i in sorted(range(1, len(tree.nodes)), key=lambda i: tree.nodes[i].key):
        members.setdefault(tree.nodes[i].key[0], []).append(i)
    return members


def per_tree_and_round(rollouts: int, roots: int, rounds: int, siblings: int = 1) -> int:
    """Returns N, the places expanded per tree and round, from M' = M (1 + N·T·L) leaves.

    Args:
        rollouts: M', leaves per prompt.
        roots: M, trees per prompt.
        rounds: L.
        siblings: T, paths added at each place.

    Raises:
        ConfigError: the leaves cannot be divided evenly.

    >>> per_tree_and_round(6, 2, 1), per_tree_and_round(30, 6, 1, siblings=2)
    (2, 2)
    """
    if min(roots, rounds, siblings) < 1:
        raise ConfigError(f"roots, rounds and siblings must be at least 1, got {roots}, {rounds} and {siblings}.")
    places, remainder = divmod(rollouts - roots, roots * rounds * siblings)
    if places < 1 or remainder:
        step = roots * rounds * siblings
        raise ConfigError(
            f"rollouts = {rollouts} cannot be grown evenly: {roots} trees with {rounds} rounds of {siblings} siblings take "
            f"{roots} + {step}·N leaves, N = 1, 2, …; e.g. {roots + step * max(1, places)}."
        )
    return places
