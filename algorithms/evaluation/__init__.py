"""Held-out evaluation, by the training loop's own rollouts."""

from .held_out import Evaluation, evaluate
from .intervals import wilson

__all__ = ["Evaluation", "evaluate", "wilson"]
