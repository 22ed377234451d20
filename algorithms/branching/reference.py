"""The decision that ARPO's released code takes, which is not the one its paper describes.

Source: the authors' repository, class `vLLMRolloutWithTools`; recipe `arpo(implementation="reference")` lists what differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .entropy import Bernoulli
from .strategy import BranchPoint, Grow, Weighed, mean, new_roots


@dataclass(frozen=True)
class ReferenceBranching:
    """Compares the action before a tool call with the path's own first action; nothing after the result is looked at.

    Args:
        roots: N, rollouts that start from the prompt.
        rule: what to do with the change.
        tokens: k, at most this many first tokens of an action count.
        siblings: Z; each is drawn independently.

    Raises:
        ConfigError: a number is out of range.
    """

    roots: int
    rule: Bernoulli = Bernoulli()
    tokens: int = 20
    siblings: int = 1
    keeps: Literal["none", "action"] = "none"
    probe: int = 0
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("roots", "tokens", "siblings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the roots, then back-fills one by one, so that a back-filled path may fork too."""
        return new_roots(tree, min(left, 1 if tree.roots() else self.roots))

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Draws for every sibling; on a path's first result of its own the change is 0."""
        return sum(self.rule.forks(self._change(point), rng) for _ in range(self.siblings))

    def weigh(self, point: BranchPoint) -> Weighed:
        """Returns the means of the two actions, whose sums the rule compares, and the probability of each sibling."""
        first, last = (mean(point.actions[i][: self.tokens]) for i in (0, -1))
        return Weighed(first, last, self.rule.probability(self._change(point)))

    def _change(self, point: BranchPoint) -> float:
        first, last = (sum(point.actions[i][: self.tokens]) for i in (0, -1))
        return (last - first) / log(point.vocabulary_size)
