"""How answers are judged: one checker for each kind of answer, and the reward rules built on them."""

from .answers import exact_match, normalise, token_f1
from .checking import CHECKERS, check
from .hierarchical import HierarchicalReward
from .published import TextScores, published_scores
from .verdict import Verdict

__all__ = [
    "CHECKERS",
    "HierarchicalReward",
    "TextScores",
    "Verdict",
    "check",
    "exact_match",
    "normalise",
    "published_scores",
    "token_f1",
]
