"""No forks at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..tree import RolloutTree
from .strategy import BranchPoint, Grow, roots_then_backfill


@dataclass(frozen=True)
class NoBranching:
    """Independent rollouts from the prompt, as GRPO has them."""

    keeps: Literal["none", "action"] = "none"
    probe: int = 0
    forks: bool = False

    @property
    def roots(self) -> int | None:
        """All rollouts start from the prompt."""
        return None

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts everything at once."""
        return roots_then_backfill(tree, left, None)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Never forks."""
        return 0
