"""Environments as the commands name them, by an id and NAME=VALUE arguments, with errors that say what is wrong."""

import ast
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from arpo_envs import ArpoError, ConfigError
from arpo_envs.envs.named import require_env
from arpo_envs.errors import unknown_name

from ..rollout import MakeEnv, TextEnv, place, reason


@dataclass(frozen=True)
class _Maker:
    """Makes environments; a dataclass, so that errors show what was asked for."""

    env: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> TextEnv:
        return gym.make(self.env, disable_env_checker=True, **self.options)


def env_maker(env: str, options: dict[str, Any]) -> MakeEnv:
    """Returns a maker of text environments, after making one to find mistakes now.

    Raises:
        ConfigError: no environment has that id, it does not take these arguments, or it is not a text environment.
    """
    known, maker = require_env(env), _Maker(env, options)
    try:
        made = maker()
    except ArpoError:
        raise
    except TypeError as error:
        raise _wrong_arguments(env, known, options, error) from error
    except Exception as error:  # an environment of another package may fail in any way, and the user must see where
        where = f" ({place(error.__cause__ or error)})"
        raise ConfigError(f"{env} cannot be made: {reason(error)}{where}") from error
    try:
        require_text(made)
    finally:
        made.close()
    return maker


def arguments_of(env: str) -> Mapping[str, inspect.Parameter]:
    """Returns the arguments that an environment takes, by name.

    Raises:
        ConfigError: no environment has that id.
    """
    entry_point = gym.registry[require_env(env)].entry_point
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return inspect.signature(creator).parameters if creator is not None else {}


def _wrong_arguments(env: str, known: str, options: dict[str, Any], error: TypeError) -> ConfigError:
    """Returns the error that names an argument the environment does not take, and the closest one that it does."""
    takes = arguments_of(known)
    strange = [name for name in options if name not in takes]
    if not strange or any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return ConfigError(f"{env} does not take these arguments: {error}")
    return unknown_name(f"argument of {env}", strange[0], takes)


def require_text(env: TextEnv) -> None:
    """Refuses an environment that is not a conversation.

    Raises:
        ConfigError: its actions or observations are not strings.
    """
    spaces = {"takes no text: its actions": env.action_space, "shows no text: its observations": env.observation_space}
    for what, space in spaces.items():
        if not isinstance(space.sample(), str):
            name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
            raise ConfigError(f"{name} {what} are {space}. `arpo envs` lists environments that do.")


def parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Returns NAME=VALUE words as a dictionary; a value is a Python literal where it looks like one.

    Raises:
        ConfigError: a word has no "=".

    >>> parse_arguments(["hops=2", "split=test", "relations=['capital']"])
    {'hops': 2, 'split': 'test', 'relations': ['capital']}
    """
    parsed: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"Expected NAME=VALUE, got {word!r}.")
        try:
            parsed[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[name] = value
    return parsed
