"""How answers are judged: one checker for each kind of answer, and the reward rules built on them."""

from .answers import exact_match, normalise, token_f1
from .checking import CHECKERS, check
from .hierarchical import HierarchicalReward
from .verdict import Verdict

__all__ = ["CHECKERS", "HierarchicalReward", "Verdict", "check", "exact_match", "normalise", "token_f1"]
