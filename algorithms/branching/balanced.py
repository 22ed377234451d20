"""AEPO's rollout: a first path is watched, the budget is split by what it showed, and forks in a row become rarer.

Source: AEPO (arXiv 2510.14545): m = k·σ(β (H_root − H̄_tool)), and P_t = (α + γ·ΔH_t)(1 − P̂(l)).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .entropy import Bernoulli, Normalisation, Threshold, entropy_change
from .strategy import BranchPoint, Grow, Weighed, heads, new_roots


@dataclass(frozen=True)
class BalancedBranching:
    """Roots by pre-monitored entropy; forks by entropy change, with a penalty for consecutive forks of a path.

    The watched path is a leaf like any other, but never forks: it ends before the budget is split.

    Args:
        rule: what to do with α + γ·ΔH, after the penalty.
        balance: β, how strongly the entropy of the question, minus that of tool results, moves the split.
        penalty: what each further consecutive fork takes off the probability, P̂(l) = min(1, penalty · l).
        probe: k, tokens sampled after a result before deciding; also how many count at the question.
        siblings: Z, paths added by one fork.
        normalisation: of ΔH, see `entropy_change`.

    Raises:
        ConfigError: a number is out of range.
    """

    rule: Bernoulli | Threshold = Bernoulli()
    balance: float = 0.5
    penalty: float = 0.05
    probe: int = 20
    siblings: int = 1
    normalisation: Normalisation = "nats"
    keeps: Literal["none", "action"] = "none"
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.probe < 1 or self.siblings < 1:
            raise ConfigError(f"probe and siblings must be at least 1, got {self.probe} and {self.siblings}.")
        if not 0.0 <= self.penalty <= 1.0:
            raise ConfigError(f"penalty is subtracted from a probability and must lie in [0, 1], got {self.penalty}.")

    @property
    def roots(self) -> int | None:
        """One path, watched before the budget is split."""
        return 1

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the watched path, then the roots, then back-fills."""
        roots = len(tree.roots())
        if roots == 0:
            return new_roots(tree, min(1, left))
        if roots == 1:
            wanted = global_paths(*monitored_entropies(tree, self.probe), budget=left + 1, balance=self.balance)
            return new_roots(tree, min(wanted, left), fresh=True)
        return new_roots(tree, left)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Asks for Z siblings if the rule says so; the watched path never forks."""
        if point.key[0] == 0:
            return 0
        return self.siblings if self.rule.forks(self._change(point), rng, factor=self._factor(point)) else 0

    def weigh(self, point: BranchPoint) -> Weighed:
        """Returns the entropies that ΔH compares, and the probability after the penalty; 0 on the watched path."""
        chance = self.rule.probability(self._change(point), factor=self._factor(point)) if point.key[0] else 0.0
        return heads(point, self.probe, chance)

    def _factor(self, point: BranchPoint) -> float:
        return 1.0 - min(1.0, self.penalty * point.consecutive)

    def _change(self, point: BranchPoint) -> float:
        return entropy_change(
            point.probe,
            point.baseline,
            tokens=self.probe,
            vocabulary_size=point.vocabulary_size,
            normalisation=self.normalisation,
        )


def monitored_entropies(tree: RolloutTree, tokens: int) -> tuple[float, float]:
    """Returns (H_root, H̄_tool) of the first path: mean nats per token after the question, and after tool results.

    What the environment says of a mistake is no tool result, here as where forks are decided. Where the paper is silent:
    without a tool result, H̄_tool is H_root, as in the authors' code.
    """
    path = [tree.nodes[node] for node, _ in tree.path(tree.leaves()[0])]
    heads = [path[1], *(action for call, action in zip(path, path[2:], strict=False) if call.tool)]
    root, *after = [float(np.mean(head.entropies[:tokens], dtype=np.float64)) for head in heads if head.entropies] or [0.0]
    return root, float(np.mean(after)) if after else root


def global_paths(root: float, tool: float, *, budget: int, balance: float) -> int:
    """Returns m = ⌊k·σ(β (H_root − H̄_tool))⌋, at least 1 and at most k − 1.

    Args:
        root: H_root, nats per token.
        tool: H̄_tool, nats per token.
        budget: k, leaves per prompt.
        balance: β.

    >>> global_paths(1.0, 1.0, budget=16, balance=0.5), global_paths(9.0, 1.0, budget=16, balance=0.5)
    (8, 15)
    """
    share = 1.0 / (1.0 + exp(-balance * (root - tool)))
    return max(1, min(budget - 1, int(budget * share)))
