"""Named algorithms, one per file; each is a function that returns an `Algorithm`.

To add one, write a file here whose name is that of its function, or offer it from a package of your own; see
`docs/add-an-algorithm.md`. What several recipes share is in files whose names begin with `_`.
"""

import pkgutil
from typing import Any

from arpo_envs import ConfigError, Registry

from ..algorithm import Algorithm
from ..options import Finished, Recipe, checked

_BUILT_IN = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))

ALGORITHMS = Registry("algorithm", "arpo.algorithms", {name: f"{__package__}.{name}:{name}" for name in _BUILT_IN})
"""The recipes of this package, and those that installed packages offer under the entry points `arpo.algorithms`."""


def names() -> list[str]:
    """Returns the names `make` knows: those built in, and those that installed packages offer."""
    return ALGORITHMS.names()


def make(name: str, **options: Any) -> Algorithm:
    """Returns an algorithm by name.

    Args:
        name: one of `names()`, or "package.module:object".
        options: the recipe's options, e.g. `rollouts=16, roots=8`.

    Raises:
        ConfigError: the name or an option is unknown, or the options contradict each other.

    >>> make("arpo", rollouts=16, roots=8).branching.probe
    20
    """
    function = recipe(name)
    algorithm = function(**checked(name, function, options))
    if not isinstance(algorithm, Algorithm):
        raise ConfigError(f"{name} returned {algorithm!r}, which is not an algorithms.Algorithm.")
    return algorithm


def recipe(name: str) -> Recipe:
    """Returns the function behind a name: its keyword arguments are the options, its docstring explains them.

    A finished `Algorithm` counts as a function without options.

    Args:
        name: one of `names()`, or "package.module:object".

    Raises:
        ConfigError: the name is unknown, or what it names is not a recipe.
    """
    found = ALGORITHMS.find(name)
    if isinstance(found, Algorithm):
        return Finished(found)
    if not callable(found):
        raise ConfigError(f"The algorithm {name} is {found!r}; expected an Algorithm, or a function that returns one.")
    function: Recipe = found
    return function
