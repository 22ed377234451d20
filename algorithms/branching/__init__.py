"""Where a tree grows: strategies are values, pure functions of what they are shown, seeded from outside.

One strategy per file. To add one, write a frozen dataclass that follows the protocol in `strategy.py` and name it in a recipe.
"""

from .blind import FixedBranching, RandomBranching
from .entropy import Bernoulli, EntropyBranching, Normalisation, Threshold, entropy_change
from .none import NoBranching
from .spread import SpreadBranching
from .strategy import BranchingStrategy, BranchPoint, Grow, new_roots, roots_then_backfill

__all__ = [
    "Bernoulli",
    "BranchPoint",
    "BranchingStrategy",
    "EntropyBranching",
    "FixedBranching",
    "Grow",
    "NoBranching",
    "Normalisation",
    "RandomBranching",
    "SpreadBranching",
    "Threshold",
    "entropy_change",
    "new_roots",
    "roots_then_backfill",
]
