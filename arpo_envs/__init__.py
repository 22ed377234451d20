"""Multi-turn tool-use text environments whose episodes can be snapshotted and cloned at any step.

>>> import gymnasium as gym, arpo_envs
>>> env = gym.make("ARPO/Search-v0", cities_per_country=10)
>>> obs, info = env.reset(seed=7)
>>> twin = arpo_envs.clone(env)
"""

from . import members
from .core import ToolEnv
from .dialects import Answer, Call, Dialect, Mistake, make_dialect
from .envs import register
from .errors import (
    ArpoError,
    CloneError,
    ConfigError,
    ForkError,
    NotForkable,
    NotRecorded,
    NotRepeatable,
    RowError,
    SnapshotMismatch,
    ToolFault,
    ToolLost,
)
from .forking import ForkLevel, Snapshot, clone, clone_many, fork_level, layers, reseed, snapshot
from .outcome import Outcome, RewardRule, Score
from .partners import Partner, Turn
from .plugins import Plugin, Registry
from .prompts import Prompt, find_prompt
from .restoring import restore
from .retries import wait_before_retry
from .spaces import TextSpace
from .tasks import Demonstrable, Task, TaskSource
from .tools import Session, Stateless, Tool, ToolResult
from .tools.spec import ToolSpec

__all__ = [
    "Answer",
    "ArpoError",
    "Call",
    "CloneError",
    "ConfigError",
    "Demonstrable",
    "Dialect",
    "ForkError",
    "ForkLevel",
    "Mistake",
    "NotForkable",
    "NotRecorded",
    "NotRepeatable",
    "Outcome",
    "Partner",
    "Plugin",
    "Prompt",
    "Registry",
    "RewardRule",
    "RowError",
    "Score",
    "Session",
    "Snapshot",
    "SnapshotMismatch",
    "Stateless",
    "Task",
    "TaskSource",
    "TextSpace",
    "Tool",
    "ToolEnv",
    "ToolFault",
    "ToolLost",
    "ToolResult",
    "ToolSpec",
    "Turn",
    "clone",
    "clone_many",
    "find_prompt",
    "fork_level",
    "layers",
    "make_dialect",
    "members",
    "register",
    "reseed",
    "restore",
    "snapshot",
    "wait_before_retry",
]

register()
