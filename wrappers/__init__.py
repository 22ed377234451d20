"""Gymnasium wrappers for multi-turn text environments; each of them is copied with the environment it wraps."""

from .token_budget import TokenBudget
from .transcript import Transcript

__all__ = ["TokenBudget", "Transcript"]
