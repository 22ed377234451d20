"""The learner: a model and its optimizer; it scores paths and takes optimizer steps, on rewards or on demonstrations.

Names are imported when first used: the command line describes a learner without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters import has_adapters, merged_state, require_peft
    from .configuration import LearnerConfig, LoRA
    from .optimization import Diverged, Schedule
    from .sharded import ShardedLearner, ranks
    from .snapshot import ShardedSnapshot, Snapshot
    from .supervised import Exercise, SupervisedLearner
    from .torch_learner import TorchLearner
    from .weights import Described, WeightSource, copied, write_weights

__all__ = [
    "Described",
    "Diverged",
    "Exercise",
    "LearnerConfig",
    "LoRA",
    "Schedule",
    "ShardedLearner",
    "ShardedSnapshot",
    "Snapshot",
    "SupervisedLearner",
    "TorchLearner",
    "WeightSource",
    "copied",
    "has_adapters",
    "merged_state",
    "ranks",
    "require_peft",
    "write_weights",
]

_HOMES = {
    "adapters": ("has_adapters", "merged_state", "require_peft"),
    "configuration": ("LearnerConfig", "LoRA"),
    "optimization": ("Diverged", "Schedule"),
    "sharded": ("ShardedLearner", "ranks"),
    "snapshot": ("ShardedSnapshot", "Snapshot"),
    "supervised": ("Exercise", "SupervisedLearner"),
    "torch_learner": ("TorchLearner",),
    "weights": ("Described", "WeightSource", "copied", "write_weights"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module 'algorithms.learner' has no attribute {name!r}")
