"""Forks that are spread over the episode, however long it is: `alpha="auto"`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .entropy import Normalisation, entropy_change
from .pace import spreading_alpha
from .strategy import BranchPoint, Grow, Memory, Weighed, heads, roots_then_backfill


@dataclass(frozen=True)
class SpreadBranching:
    """Forks with probability clip(alpha + beta·ΔH), with the alpha at which M − N forks are expected over an episode.

    ARPO's fixed alpha of 0.5 spends a budget of M − N = N forks within the first two tool results, so that in long episodes
    its paths share next to nothing. Here alpha follows from the paths that earlier steps grew from their roots: from how many
    results each of them had, and from ΔH after each; see `pace.py`. The first step, which knows none, begins with `alpha`.

    Args:
        roots: N, rollouts that start from the prompt; the rest of the budget is for forks.
        beta: change of the probability per nat of ΔH; 0 for a control that is blind to entropy.
        probe: k, tokens sampled after a result before deciding; 0 only where beta is 0.
        siblings: Z, paths added by one fork.
        normalisation: of ΔH, see `entropy_change`.
        alpha: in force; may lie outside [0, 1].
        window: how many paths are remembered, the latest ones.

    Raises:
        ConfigError: a number is out of range.
    """

    roots: int
    beta: float = 0.2
    probe: int = 20
    siblings: int = 1
    normalisation: Normalisation = "nats"
    alpha: float = 0.5
    window: int = 256
    keeps: Literal["none", "action"] = "none"
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("roots", "siblings", "window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.probe < (self.beta != 0.0):
            raise ConfigError(f"probe must be at least 1 where beta is not 0, got {self.probe}.")
        if not (isfinite(self.alpha) and isfinite(self.beta)):
            raise ConfigError(f"alpha and beta must be finite, got {self.alpha} and {self.beta}.")

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the roots, then back-fills."""
        return roots_then_backfill(tree, left, self.roots)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Asks for Z siblings with the probability that holds here."""
        return self.siblings if rng.random() < self._probability(point) else 0

    def weigh(self, point: BranchPoint) -> Weighed:
        """Returns the entropies that ΔH compares, if it looks at any, and the probability."""
        return heads(point, self.probe, self._probability(point))

    def remember(self, memory: Memory | None, trees: Sequence[RolloutTree], vocabulary_size: int) -> Memory:
        """Returns ΔH after each result of the latest paths, those of some more trees included."""
        seen = [[self._change_at(tree, path, at, vocabulary_size) for at in asked] for tree, path, asked in _watched(trees)]
        return [*(memory or []), *seen][-self.window :]

    def adapted(self, memory: Memory, rollouts: int) -> "SpreadBranching":
        """Returns the strategy with the alpha that fits what is remembered; the same if that is nothing."""
        if not memory:
            return self
        growth = rollouts / self.roots
        return replace(self, alpha=spreading_alpha(memory, growth=growth, beta=self.beta, siblings=self.siblings))

    def _probability(self, point: BranchPoint) -> float:
        change = self._change(point.probe, point.baseline, point.vocabulary_size)
        return min(1.0, max(0.0, self.alpha + self.beta * change))

    def _change(self, probe_T: Sequence[float], baseline_T: Sequence[float], vocabulary_size: int) -> float:
        return entropy_change(
            probe_T, baseline_T, tokens=self.probe, vocabulary_size=vocabulary_size, normalisation=self.normalisation
        )

    def _change_at(self, tree: RolloutTree, path: Sequence[int], at: int, vocabulary_size: int) -> float:
        """Returns ΔH after a result, as it was when the path was asked; six digits, since it is kept in checkpoints."""
        after, first = tree.nodes[path[at + 1]].entropies, tree.nodes[path[1]].entropies
        return round(self._change(after, first, vocabulary_size), 6)


def _watched(trees: Sequence[RolloutTree]) -> list[tuple[RolloutTree, list[int], list[int]]]:
    """Returns the paths that the first roots took themselves, with the places on each where a fork was considered.

    A fork or a back-filled path is not among them: there are more of the former where paths are long, and of the latter where
    they are short. Nor is a path that failed through no fault of the model, whose end says nothing about its length.
    """
    found = []
    for tree in trees:
        for leaf in tree.leaves():
            path = [node for node, _ in tree.path(leaf)]
            status, origins = tree.nodes[leaf].status, {tree.nodes[node].origin for node in path}
            if status is not None and status.is_model and origins <= {"", "root"}:
                found.append((tree, path, [at for at, node in enumerate(path) if tree.nodes[node].decision is not None]))
    return found
