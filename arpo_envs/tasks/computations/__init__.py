"""Computational questions of graded difficulty, with exact answers: `source.py` draws them, the families lie beside it."""

from .source import ComputationSource

__all__ = ["ComputationSource"]
