"""How answers are judged: pure comparisons, and the reward rules built on them."""

from .answers import exact_match, normalise, token_f1
from .hierarchical import HierarchicalReward

__all__ = ["HierarchicalReward", "exact_match", "normalise", "token_f1"]
