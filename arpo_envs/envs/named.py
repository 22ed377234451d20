"""Environments by id: ours, those that an installed package offers, and those of a package named before the id."""

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from ..errors import ConfigError, unknown_name
from ..plugins import Registry, imported_module
from . import IDS, VECTOR, register

ENVS = Registry("environment", "arpo.envs", {name: entry_point for name, (entry_point, _) in IDS.items()})
"""Ours, and what installed packages offer under the entry points `arpo.envs`: the name is the id."""


def require_env(name: str) -> str:
    """Makes an environment known to Gymnasium, and returns its id.

    What a package offers as an entry point is imported and registered, unless importing the package already does that.

    Args:
        name: an id, or "package:id", for which the package is imported.

    Raises:
        ConfigError: no environment has that id, two packages offer it, or it cannot be imported.

    >>> require_env("arpo_envs:ARPO/Search-v0")
    'ARPO/Search-v0'
    """
    register()
    package, _, env = name.rpartition(":")
    if package:
        imported_module(package, f"The package of {name}")
    elif env not in gym.registry and any(plugin.name == env for plugin in ENVS.plugins()):
        _register_offered(env)
    if env not in gym.registry:
        raise unknown_name("environment", env, {*ENVS.names(), *_registered_by_others()})
    return env


def make_env(name: str, arguments: Mapping[str, Any]) -> "gym.Env[Any, Any]":
    """Makes an environment.

    Args:
        name: as for `require_env`.
        arguments: those of its class, and those of `gymnasium.make`.

    Raises:
        ConfigError: no environment has that id, or it does not take these arguments.
    """
    known = require_env(name)
    try:
        return gym.make(name, disable_env_checker=True, **arguments)
    except TypeError as error:
        raise _wrong_arguments(name, known, arguments, error) from error


def arguments_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Returns the arguments that an environment takes, by name.

    Raises:
        ConfigError: no environment has that id.
    """
    entry_point = gym.registry[require_env(name)].entry_point
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return inspect.signature(creator).parameters if creator is not None else {}


def _wrong_arguments(name: str, known: str, arguments: Mapping[str, Any], error: TypeError) -> ConfigError:
    """Returns the error that names an argument the environment does not take, and the closest one that it does."""
    takes = arguments_of(known)
    strange = [argument for argument in arguments if argument not in takes]
    if not strange or any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return ConfigError(f"{name} does not take these arguments: {error}")
    return unknown_name(f"argument of {name}", strange[0], takes)


def _register_offered(env: str) -> None:
    """Registers what a package offers, unless importing it did.

    Raises:
        ConfigError: it cannot be imported, does not make environments, or its name is not a valid id.
    """
    found = ENVS.find(env)
    if env in gym.registry:
        return
    plugin = next(plugin for plugin in ENVS.plugins() if plugin.name == env)
    origin = f"{plugin.package} ({plugin.reference})"
    if not callable(found):
        raise ConfigError(f"The environment {env} of {origin} is {found!r}; expected a class of environments.")
    try:
        gym.register(env, entry_point=plugin.reference, vector_entry_point=VECTOR.format(env))
    except gym.error.Error as error:
        raise ConfigError(f"{origin} offers an environment as {env!r}; the name must be an id, Namespace/Name-v0.") from error


def _registered_by_others() -> set[str]:
    """Returns the ids that neither we nor Gymnasium registered."""
    makers = {env: spec.entry_point for env, spec in gym.registry.items()}
    modules = {env: maker if isinstance(maker, str) else getattr(maker, "__module__", "") for env, maker in makers.items()}
    return {env for env, module in modules.items() if not module.startswith("gymnasium.")}
