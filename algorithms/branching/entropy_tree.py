"""Forks inside actions, at the tokens the policy was least sure of.

Source: TreeRL (arXiv 2506.11902), EPTree: M chains, then L rounds in which the N most uncertain tokens of each tree are
forked T ways.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .expansion import nodes_by_root
from .strategy import BranchPoint, Grow, new_roots


@dataclass(frozen=True)
class EntropyTree:
    """Each round drops the most uncertain tokens of every tree and samples from there again.

    Args:
        roots: M, chains that start from the prompt; each is the first path of a tree.
        places: N, tokens forked per tree and round; the budget determines the number of rounds.
        siblings: T, paths added at each.
        uncertainty: "surprisal": −log π of the token drawn, which the authors call entropy and their code computes;
            "entropy": of the distribution it was drawn from.

    Raises:
        ConfigError: a number is out of range, or the measure is unknown.
    """

    roots: int
    places: int = 2
    siblings: int = 2
    uncertainty: Literal["surprisal", "entropy"] = "surprisal"
    keeps: Literal["none", "action"] = "action"
    probe: int = 0
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in ("roots", "places", "siblings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.uncertainty not in ("surprisal", "entropy"):
            raise ConfigError(f'uncertainty is "surprisal" or "entropy", got {self.uncertainty!r}.')

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the chains, then forks the most uncertain tokens of each tree; stops when there are none left."""
        if not tree.roots():
            return new_roots(tree, min(self.roots, left))
        plan = []
        for members in nodes_by_root(tree).values():
            ranked = sorted(self._tokens(tree, members), key=lambda place: -place[0])
            plan += [Grow(node, at, self.siblings) for _, node, at in ranked[: self.places]]
        return plan

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Never forks while a path runs."""
        return 0

    def _tokens(self, tree: RolloutTree, members: Sequence[int]) -> Iterator[tuple[float, int, int]]:
        """Yields (uncertainty, node, at) of every sampled token before which a tree is not forked yet.

        A fork before a root's first token would be another chain, not part of its tree.
        """
        children: dict[tuple[int, int], int] = {}
        for node in tree.nodes:
            children[node.parent, node.parent_at] = children.get((node.parent, node.parent_at), 0) + 1
        for i in members:
            node = tree.nodes[i]
            if node.kind != "action" or (node.status is not None and not node.status.is_model):
                continue
            by_entropy = self.uncertainty == "entropy"
            for j, number in enumerate(node.entropies if by_entropy else node.logprobs):
                value = number if by_entropy else -number
                if j and (i, j) not in children:
                    yield value, i, j
                elif not j and node.parent and children[node.parent, node.parent_at] == 1:
                    above = tree.nodes[node.parent]
                    if above.kind == "observation":
                        yield value, node.parent, node.parent_at
