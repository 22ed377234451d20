"""What `gym.make_vec` calls for an id: `gym.register(ID, …, vector_entry_point="arpo_envs.vector.ids:ID")`.

An entry point is told the arguments of the environment, not its id, so the id is part of its name.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from .env import ForkableVectorEnv


def __getattr__(name: str) -> Callable[..., ForkableVectorEnv]:
    """Returns what makes a vector environment of this id.

    Raises:
        AttributeError: the name is not an id.
    """
    if "/" not in name and "-v" not in name:
        raise AttributeError(f"Module {__name__!r} has an attribute for each id, such as 'ARPO/Search-v0', but not {name!r}.")
    return partial(make_rows, name)


def make_rows(
    name: str, num_envs: int = 1, *, autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP, **arguments: Any
) -> ForkableVectorEnv:
    """Returns a vector environment of rows made by `gym.make`.

    Args:
        name: the id.
        num_envs: the number of rows.
        autoreset_mode: as in `ForkableVectorEnv`.
        arguments: of every row, as for `gym.make`.

    Raises:
        ConfigError: as `ForkableVectorEnv`.
    """
    return ForkableVectorEnv([partial(gym.make, name, **arguments)] * num_envs, autoreset_mode=autoreset_mode)
