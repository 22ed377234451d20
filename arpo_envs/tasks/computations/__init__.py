"""Computational questions of graded difficulty, with exact answers: `source.py` draws them, the families are next to it."""

from .source import ComputationSource

__all__ = ["ComputationSource"]
