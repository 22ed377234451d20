"""Rollouts: `collect` grows one tree per prompt, one coroutine per path, and forks by cloning the environment.

Only here do environment, policy and strategy meet. `batch.py` starts it, `growth.py` is one tree while it grows,
`travel.py` one path on its way down; beside them lie what they need: clocks, threads for tools, limits, and the door where
everything that enters a tree is checked. It works without our trainer.
"""

from .batch import Collected, RolloutError, Rollouts, all_failed, collect, try_collect
from .failures import Failures, place, reason
from .limits import Limits, MakeEnv, Start, TextEnv
from .prompts import check_prompts

__all__ = [
    "Collected",
    "Failures",
    "Limits",
    "MakeEnv",
    "RolloutError",
    "Rollouts",
    "Start",
    "TextEnv",
    "all_failed",
    "check_prompts",
    "collect",
    "place",
    "reason",
    "try_collect",
]
