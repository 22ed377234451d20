"""Checkpoints: written aside, then renamed, so that a killed run always finds a whole one; damaged ones are skipped.

run/checkpoints/step-000040/policy/        an ordinary Hugging Face folder
run/checkpoints/step-000040/learner/       optimizer, in parts that any number of ranks can read
run/checkpoints/step-000040/previous/      weights of the step before, in a run that collects ahead
run/checkpoints/step-000040/state.json     how far the run is
run/checkpoints/step-000040/manifest.json  sizes and checksums of all these
run/policy -> checkpoints/step-000040/policy
run/best -> checkpoints/best-000030        the best policy so far as another such folder, with best.json
"""

from .background import Background, is_no_memory
from .best_policy import BEST, Best, best, save_best
from .found import Checkpoint, latest, newest_step
from .saving import save, save_together
from .writing import Unsaved, no_room, point, save_policy

__all__ = [
    "BEST",
    "Background",
    "Best",
    "Checkpoint",
    "Unsaved",
    "best",
    "is_no_memory",
    "latest",
    "newest_step",
    "no_room",
    "point",
    "save",
    "save_best",
    "save_policy",
    "save_together",
]
