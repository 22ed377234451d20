"""Named algorithms, one per file; each is a function that returns an `Algorithm`.

To add one, write a file with such a function here and a line in `_BUILT_IN`; see
`docs/add-an-algorithm.md`.
"""

import importlib
import inspect
from typing import Any

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name

from ..algorithm import Algorithm

_BUILT_IN = {
    "arpo": "arpo:arpo",
    "grpo": "grpo:grpo",
    "random_branching": "random_branching:random_branching",
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
    if name not in _BUILT_IN:
        raise unknown_name("algorithm", name, _BUILT_IN)
    module, _, function = _BUILT_IN[name].partition(":")
    recipe = getattr(importlib.import_module(f".{module}", __package__), function)
    known = inspect.signature(recipe).parameters
    for option in options:
        if option not in known:
            raise ConfigError(f"{name} does nothing with {option!r}. {unknown_name('option', option, known)}")
    algorithm: Algorithm = recipe(**options)
    return algorithm
