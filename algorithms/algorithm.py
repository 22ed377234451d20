"""`Algorithm`: a value that says where trees grow, how credit flows and what is minimised."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from arpo_envs import ConfigError

from .advantages import AdvantageEstimator
from .branching import BranchingStrategy
from .losses import Loss
from .tree import RolloutTree

Aggregation = Literal["token", "sequence"]


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
        aggregation: "token": mean over all tokens of the optimizer batch; "sequence": mean over paths
            of each path's mean.
        needs: what the learner must compute beside log-probabilities; "reference" for a KL penalty.
        keep: which trees to train on; None for all.

    Raises:
        ConfigError: fewer rollouts than roots, or a need nobody knows.
    """

    name: str
    source: str
    branching: BranchingStrategy
    rollouts: int
    advantages: AdvantageEstimator
    loss: Loss
    aggregation: Aggregation = "token"
    needs: frozenset[Literal["reference"]] = frozenset()
    keep: Callable[[RolloutTree], bool] | None = None

    def __post_init__(self) -> None:
        """Checks what contradicts itself."""
        roots = self.branching.roots
        if self.rollouts < 2:
            raise ConfigError(f"rollouts (M) must be at least 2, because advantages compare siblings; got {self.rollouts}.")
        if roots is not None and roots > self.rollouts:
            raise ConfigError(f"roots (N) = {roots} exceeds rollouts (M) = {self.rollouts}.")
        if roots is not None and self.branching.forks and roots == self.rollouts:
            raise ConfigError(f"roots = rollouts = {roots} leaves no budget for forks; that is 'grpo'.")
