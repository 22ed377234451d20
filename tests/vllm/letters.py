"""Registers an environment in which a random model, too, earns something; engines in other processes import it by its id."""

from typing import Any

import gymnasium as gym
from rollout_toys import CountTool
from test_trainer import Lenient


def counted(**options: Any) -> Lenient:
    return Lenient(CountTool())


gym.register("LettersElsewhere-v0", entry_point=counted)
