"""Where metrics go: always to a JSONL file, to wandb on request; one tracker per file.

`tracker.py` says what a tracker is. One that may fail, for example because it needs a network, is wrapped in `Guarded`.
"""

from .guarded import Guarded
from .jsonl import JsonlTracker, keep_steps_before
from .tracker import Tracker, log_all
from .wandb import WandbTracker, has_key, require_wandb

__all__ = [
    "Guarded",
    "JsonlTracker",
    "Tracker",
    "WandbTracker",
    "has_key",
    "keep_steps_before",
    "log_all",
    "require_wandb",
]
