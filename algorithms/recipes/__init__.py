"""Named algorithms, one per file; each is a function that returns an `Algorithm`.

To add one, write a file with such a function here and a line in `_BUILT_IN`; see
`docs/add-an-algorithm.md`.
"""

import importlib
from typing import Any

from arpo_envs.errors import unknown_name

from ..algorithm import Algorithm
from .options import Recipe, checked

_BUILT_IN = {
    "aepo": "aepo:aepo",
    "arpo": "arpo:arpo",
    "cispo": "cispo:cispo",
    "dapo": "dapo:dapo",
    "dr_grpo": "dr_grpo:dr_grpo",
    "fixed_branching": "fixed_branching:fixed_branching",
    "gigpo": "gigpo:gigpo",
    "grpo": "grpo:grpo",
    "gspo": "gspo:gspo",
    "ppo": "ppo:ppo",
    "random_branching": "random_branching:random_branching",
    "reinforce_plus_plus": "reinforce_plus_plus:reinforce_plus_plus",
    "reinforce_plus_plus_baseline": "reinforce_plus_plus_baseline:reinforce_plus_plus_baseline",
    "rloo": "rloo:rloo",
    "spo_tree": "spo_tree:spo_tree",
    "tree_grpo": "tree_grpo:tree_grpo",
    "tree_po": "tree_po:tree_po",
    "tree_rl": "tree_rl:tree_rl",
}


def names() -> list[str]:
    """Returns the names `make` knows."""
    return sorted(_BUILT_IN)


def make(name: str, **options: Any) -> Algorithm:
    """Returns an algorithm by name.

    Args:
        name: one of `names()`.
        options: of that recipe, e.g. `rollouts=16, roots=8`.

    Raises:
        ConfigError: the name or an option is unknown, or the options contradict each other.

    >>> make("arpo", rollouts=16, roots=8).branching.probe
    20
    """
    function = recipe(name)
    algorithm: Algorithm = function(**checked(name, function, options))
    return algorithm


def recipe(name: str) -> Recipe:
    """Returns the function behind a name: its keyword arguments are the options, its docstring explains them.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in _BUILT_IN:
        raise unknown_name("algorithm", name, _BUILT_IN)
    module, _, function = _BUILT_IN[name].partition(":")
    found: Recipe = getattr(importlib.import_module(f".{module}", __package__), function)
    return found
