"""Computational questions of graded difficulty, with exact answers: `source.py` draws them, the families are next to it.

`families.py` also has the steps that may follow any integer, which other sources ask for, too.
"""

from .families import SMALL, Step, between, difficulty_of, follow
from .source import ComputationSource

__all__ = ["SMALL", "ComputationSource", "Step", "between", "difficulty_of", "follow"]
