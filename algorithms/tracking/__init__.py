"""Where metrics go: always to a JSONL file, to wandb on request."""

from .jsonl import Guarded, JsonlTracker, Tracker, WandbTracker, has_key, keep_steps_before, log_all, require_wandb

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
