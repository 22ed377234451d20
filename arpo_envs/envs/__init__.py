"""The environments: each file is tools + tasks + a reward; `register` makes their ids known to Gymnasium."""

import gymnasium as gym

IDS = {"ARPO/Search-v0": "arpo_envs.envs.search:SearchEnv"}
"""Every registered id with its entry point, a string, so that nothing heavy is imported and specs serialise."""


def register() -> None:
    """Registers every environment of this package that is not registered yet."""
    for name, entry_point in IDS.items():
        if name not in gym.registry:
            gym.register(name, entry_point=entry_point)
