"""Rollouts: `collect` grows one tree per prompt, one coroutine per path, and forks by cloning the environment.

Environment, policy and strategy meet only here. To understand one fork, read six files in this order: `trajectory.py`, one
path on its way down (`Trajectory.fork` is the fork itself); `environments.py`, where its environment is cloned; `growth.py`,
the tree that gives it keys and budget; then `branching/strategy.py`, what is decided; `arpo_envs/forking.py`, what a clone
is; and `tree/rollout_tree.py`, what is left in the end. Above them, `planting.py` takes one tree from prompt to leaves, and
`batch.py` all trees of a call; `run.py` holds what they share. The other files are clocks, threads for tools, limits, and
the door where everything that enters a tree is checked; and `partner.py`, a policy that acts for an agent that is not trained.
All of it works without the trainer.
"""

from .batch import (
    GROWN_AGAIN,
    Collected,
    Collector,
    RolloutError,
    Rollouts,
    Trouble,
    all_failed,
    collect,
    neighbours_for,
    never_grown,
    try_collect,
)
from .door import MISTAKE
from .failures import Failures, is_lost, place, reason
from .partner import PolicyPartner
from .planting import require_prompts
from .run import Ended, Limits, MakeEnv, Neighbours, Start, TextEnv

__all__ = [
    "GROWN_AGAIN",
    "MISTAKE",
    "Collected",
    "Collector",
    "Ended",
    "Failures",
    "Limits",
    "MakeEnv",
    "Neighbours",
    "PolicyPartner",
    "RolloutError",
    "Rollouts",
    "Start",
    "TextEnv",
    "Trouble",
    "all_failed",
    "collect",
    "is_lost",
    "neighbours_for",
    "never_grown",
    "place",
    "reason",
    "require_prompts",
    "try_collect",
]
