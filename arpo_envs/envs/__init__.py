"""The environments: each file is tools + tasks + a reward; `register` makes their ids known to Gymnasium."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

_MINI: Mapping[str, Any] = {
    "cities_per_country": 10,
    "results": 1,
    "max_tool_calls": 4,
    "relations": [
        "country",
        "capital",
        "currency",
        "calling code",
        "internet domain",
        "ISO code",
        "largest other city",
    ],
}

IDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ARPO/Search-v0": ("arpo_envs.envs.search:SearchEnv", {}),
    "ARPO/SearchMini-v0": ("arpo_envs.envs.search:SearchEnv", _MINI),
    "ARPO/Browser-v0": ("arpo_envs.envs.browser:BrowserEnv", {}),
    "ARPO/DeepSearch-v0": ("arpo_envs.envs.deep_search:DeepSearchEnv", {}),
    "ARPO/DeepSearchSolver-v0": ("arpo_envs.envs.deep_search_solver:DeepSearchSolverEnv", {}),
    "ARPO/Python-v0": ("arpo_envs.envs.python:PythonEnv", {}),
    "ARPO/Mixture-v0": ("arpo_envs.envs.mixture:Mixture", {}),
}
"""Every registered id with its entry point, a string, so that nothing heavy is imported and specs serialise."""

VECTOR = "arpo_envs.vector.ids:{}"
"""What makes the vector environment of an id: `gym.make_vec` prefers it to Gymnasium's own, whose rows wait for each other."""


def register() -> None:
    """Registers every environment of this package that is not registered yet."""
    for name, (entry_point, arguments) in IDS.items():
        if name not in gym.registry:
            gym.register(name, entry_point=entry_point, vector_entry_point=VECTOR.format(name), kwargs=dict(arguments))
