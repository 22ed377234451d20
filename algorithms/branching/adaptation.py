"""The one part of branching that changes from step to step: what an adapting strategy remembers of a run."""

from collections.abc import Sequence

from ..tree import RolloutTree
from .strategy import Adapting, BranchingStrategy, Memory


class Adaptation:
    """Keeps the memory of an adapting strategy; for any other strategy it does nothing.

    >>> from algorithms.branching import NoBranching
    >>> Adaptation().adapted(NoBranching(), 16)
    NoBranching(keeps='none', probe=0, forks=False)
    """

    def __init__(self) -> None:
        self.memory: Memory | None = None
        """JSON values, which a checkpoint holds; None before the first trees."""

    def adapted(self, branching: BranchingStrategy, rollouts: int) -> BranchingStrategy:
        """Returns the strategy for the next trees of M rollouts each."""
        if self.memory is None or not isinstance(branching, Adapting):
            return branching
        return branching.adapted(self.memory, rollouts)

    def remember(self, branching: BranchingStrategy, trees: Sequence[RolloutTree], vocabulary_size: int) -> None:
        """Takes in the trees of a step, which are frozen.

        Args:
            branching: the strategy that the run began with.
            trees: all that were grown, whether they were trained on or not.
            vocabulary_size: of the policy.
        """
        if isinstance(branching, Adapting):
            self.memory = branching.remember(self.memory, trees, vocabulary_size)
