"""`Algorithm`: a value that says where trees grow, how credit flows and what is minimised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from arpo_envs import ConfigError

from .advantages import COMPARES, AdvantageEstimator, Credit, Scores
from .branching.strategy import BranchingStrategy
from .losses import Loss
from .losses.aggregation import Aggregation, require_aggregation
from .rewards import RewardTerm, with_terms
from .tree import RolloutTree

__all__ = ["Aggregation", "Algorithm", "Need"]

Need = Literal["reference", "values"]


@dataclass(frozen=True)
class Algorithm:
    """Everything that makes one algorithm differ from another.

    Args:
        name: as in `algorithms.make(name)`.
        source: paper and equations.
        branching: where trees grow.
        rollouts: M, leaves per prompt.
        advantages: credit for every token.
        loss: per token.
        aggregation: what the sum of the token losses of an optimizer batch is divided by, see `Aggregation`.
        needs: what the learner must compute besides log-probabilities: "reference", those of a frozen copy; "values",
            those of a value head.
        keep: which trees to train on; None for all.
        refills: how many more times a step may collect fresh prompts in place of those that `keep` dropped.
        reward_terms: what is added to the environment's reward before credit is given; `keep` does not see it.

    Raises:
        ConfigError: fewer rollouts than roots, one rollout where credit compares several, an unknown aggregation or
            need, or refills without `keep`.
    """

    name: str
    source: str
    branching: BranchingStrategy
    rollouts: int
    advantages: AdvantageEstimator
    loss: Loss
    aggregation: Aggregation = "token"
    needs: frozenset[Need] = frozenset()
    keep: Callable[[RolloutTree], bool] | None = None
    refills: int = 0
    reward_terms: tuple[RewardTerm, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that contradict each other."""
        roots = self.branching.roots
        if self.rollouts < 1:
            raise ConfigError(f"rollouts (M) must be at least 1, got {self.rollouts}.")
        if self.rollouts < 2 and COMPARES.of(self.advantages):
            raise ConfigError(f"rollouts (M) must be at least 2, because advantages compare siblings; got {self.rollouts}.")
        if roots is not None and roots > self.rollouts:
            raise ConfigError(f"roots (N) = {roots} exceeds rollouts (M) = {self.rollouts}.")
        if roots is not None and self.branching.forks and roots == self.rollouts:
            raise ConfigError(f"roots = rollouts = {roots} leaves no budget for forks; that is 'grpo'.")
        require_aggregation(self.aggregation)
        if unknown := self.needs - {"reference", "values"}:
            raise ConfigError(f"needs may name 'reference' and 'values', got {sorted(unknown)}.")
        if self.refills < 0 or (self.refills and self.keep is None):
            raise ConfigError(f"refills = {self.refills} replaces trees that `keep` drops; without `keep` it does nothing.")

    def credit(self, trees: Sequence[RolloutTree], scores: Scores = Scores()) -> Credit:
        """Returns the credit of every token, the reward terms included."""
        return self.advantages(with_terms(trees, self.reward_terms), scores)
