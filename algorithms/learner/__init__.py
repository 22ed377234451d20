"""The learner: a model and its optimizer; it scores paths and takes optimizer steps."""

from .adapters import LoRA, has_adapters, merged_state, require_peft
from .mismatch import TruncatedImportanceSampling
from .optimization import Diverged, Schedule
from .torch_learner import Learner, LearnerConfig, TorchLearner

__all__ = [
    "Diverged",
    "Learner",
    "LearnerConfig",
    "LoRA",
    "Schedule",
    "TorchLearner",
    "TruncatedImportanceSampling",
    "has_adapters",
    "merged_state",
    "require_peft",
]
