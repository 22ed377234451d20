"""The learner: a model and its optimizer; it scores paths and takes optimizer steps.

Names are imported when first used: the command line describes a learner without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters import LoRA, has_adapters, merged_state, require_peft
    from .mismatch import TruncatedImportanceSampling
    from .optimization import Diverged, Schedule
    from .torch_learner import LearnerConfig, TorchLearner

__all__ = [
    "Diverged",
    "LearnerConfig",
    "LoRA",
    "Schedule",
    "TorchLearner",
    "TruncatedImportanceSampling",
    "has_adapters",
    "merged_state",
    "require_peft",
]

_HOMES = {
    "adapters": ("LoRA", "has_adapters", "merged_state", "require_peft"),
    "mismatch": ("TruncatedImportanceSampling",),
    "optimization": ("Diverged", "Schedule"),
    "torch_learner": ("LearnerConfig", "TorchLearner"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module 'algorithms.learner' has no attribute {name!r}")
