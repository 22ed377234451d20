"""Forks where a call failed: docs/add-an-algorithm.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms import Algorithm, RolloutTree
from algorithms.advantages import Credit, Scores, along_paths, rewards, sampled_weights
from algorithms.branching import BranchPoint, Grow, roots_then_backfill
from algorithms.losses import LossInputs, LossOutput


@dataclass(frozen=True)
class ForkAfter:
    """Adds a sibling after a result that the strategy looks for."""

    roots: int
    failures: bool = True
    keeps: Literal["none", "action"] = "none"
    probe: int = 0
    forks: bool = True

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        return roots_then_backfill(tree, left, self.roots)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        failed = point.status != "ok" or "error" in point.text
        return int(failed if self.failures else point.tool != "")


@dataclass(frozen=True)
class LeaveOneOut:
    """A rollout's reward minus the mean of the others."""

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        advantages = []
        for tree in trees:
            reward_L, valid_L = rewards(tree)
            count, total = valid_L.sum(), reward_L[valid_L].sum()
            others_L = (total - reward_L) / max(1, count - 1)
            advantages.append(along_paths(tree, np.where(valid_L & (count > 1), reward_L - others_L, 0.0)))
        return Credit(tuple(advantages), tuple(sampled_weights(tree) for tree in trees))


def reinforce(inputs: LossInputs) -> LossOutput:
    """−A · log π."""
    return LossOutput(-inputs.advantage_BT * inputs.logp_BT)


def careful(*, rollouts: int = 4, roots: int = 2, failures: bool = False) -> Algorithm:
    """Returns an algorithm that forks after results, or after failures only.

    Args:
        rollouts: M, rollouts per prompt.
        roots: N, of them from the prompt.
        failures: whether only failed calls count.
    """
    return Algorithm("careful", "outsider", ForkAfter(roots, failures), rollouts, LeaveOneOut(), reinforce)
