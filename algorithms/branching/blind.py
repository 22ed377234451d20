"""Controls that do not look at the policy: forks drawn by a coin, and forks at fixed places."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .strategy import BranchPoint, Grow, Weighed, roots_then_backfill


@dataclass(frozen=True)
class RandomBranching:
    """The control: forks at the same places with a fixed probability, blind to entropy.

    Args:
        roots: N, rollouts that start from the prompt.
        probability: of a fork after each tool result.
        siblings: Z, paths added by one fork.

    Raises:
        ConfigError: a number is out of range.
    """

    roots: int
    probability: float = 0.5
    siblings: int = 1
    keeps: Literal["none", "action"] = "none"
    probe: int = 0
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.roots < 1 or self.siblings < 1:
            raise ConfigError(f"roots and siblings must be at least 1, got {self.roots} and {self.siblings}.")
        if not 0.0 < self.probability <= 1.0:
            raise ConfigError(f"probability must lie in (0, 1], got {self.probability}; at 0 it is NoBranching.")

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the roots, then back-fills."""
        return roots_then_backfill(tree, left, self.roots)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Tosses the coin."""
        return self.siblings if rng.random() < self.probability else 0

    def weigh(self, point: BranchPoint) -> Weighed:
        """Compares nothing."""
        return Weighed(None, None, self.probability)


@dataclass(frozen=True)
class FixedBranching:
    """The other control: forks after the same tool calls on every path, blind to entropy and to chance.

    Args:
        roots: N, rollouts that start from the prompt.
        at: the tool calls after which a path forks, counted from 1.
        siblings: Z, paths added by one fork.
    """

    roots: int
    at: tuple[int, ...] = (1,)
    siblings: int = 1
    keeps: Literal["none", "action"] = "none"
    probe: int = 0
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.roots < 1 or self.siblings < 1:
            raise ConfigError(f"roots and siblings must be at least 1, got {self.roots} and {self.siblings}.")
        if not self.at or min(self.at) < 1 or len(set(self.at)) < len(self.at):
            raise ConfigError(f"at must name tool calls, each once, counted from 1; got {self.at}.")

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the roots, then back-fills."""
        return roots_then_backfill(tree, left, self.roots)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Forks where it always does."""
        return self.siblings if point.tool_calls in self.at else 0

    def weigh(self, point: BranchPoint) -> Weighed:
        """Compares nothing, and draws nothing."""
        return Weighed(None, None, float(point.tool_calls in self.at))
