"""Held-out evaluation, by the training loop's own rollouts."""

from .around_results import Average, EntropyProfile, entropy_profile
from .held_out import Evaluation, evaluate
from .intervals import wilson

__all__ = ["Average", "EntropyProfile", "Evaluation", "entropy_profile", "evaluate", "wilson"]
