"""Where metrics go: always to a JSONL file, to wandb or TensorBoard on request; one tracker per file.

`tracker.py` says what a tracker is. One that may fail or hang, for example because it needs a network, is wrapped in `Guarded`:
it then works in a process of its own (`worker.py`).
"""

from .guarded import Guarded
from .jsonl import JsonlTracker, keep_steps_before
from .tensorboard import TensorboardTracker, require_tensorboard
from .tracker import FILE, TABLE, Rows, Tracker, TrackerWarning, log_all
from .wandb import Mode, WandbTracker, has_key, require_wandb

__all__ = [
    "FILE",
    "TABLE",
    "Guarded",
    "JsonlTracker",
    "Mode",
    "Rows",
    "TensorboardTracker",
    "Tracker",
    "TrackerWarning",
    "WandbTracker",
    "has_key",
    "keep_steps_before",
    "log_all",
    "require_tensorboard",
    "require_wandb",
]
