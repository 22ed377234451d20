"""What several wrappers here have in common."""

import copy
import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym

from arpo_envs import ConfigError, ForkLevel, ToolResult, members

ObservationT = TypeVar("ObservationT")
ActionT = TypeVar("ActionT")
WrapperT = TypeVar("WrapperT", bound="gym.Wrapper[Any, Any, Any, Any]")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Remembering(gym.Wrapper[ObservationT, ActionT, str, str], Generic[ObservationT, ActionT]):
    """A wrapper of a text environment that remembers what it returned, for `restore`."""

    env: gym.Env[Any, Any]  # Gymnasium says it had the wrapper's own types
    fork_level: ClassVar[ForkLevel] = ForkLevel.EXACT

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._last: tuple[Any, dict[str, Any]] = ("", {})

    def last(self) -> tuple[ObservationT, dict[str, Any]]:
        """Returns the observation and info that the last reset or step returned."""
        return copy.deepcopy(self._last)

    def _returned(self, observation: ObservationT, info: dict[str, Any]) -> tuple[ObservationT, dict[str, Any]]:
        """Remembers a copy of what is about to be returned, which belongs to the user."""
        memo: dict[int, Any] = {}
        plain = (str, int, float, bool, type(None))  # what most of info is: copies of these are themselves
        kept = {name: value if type(value) in plain else copy.deepcopy(value, memo) for name, value in info.items()}
        self._last = (copy.deepcopy(observation, memo), kept)
        return observation, info


def copied_but_for(shared: object, wrapper: WrapperT, memo: dict[int, Any]) -> WrapperT:
    """Returns a deep copy of a wrapper, for its `__deepcopy__`, that shares an object which should not or cannot be copied."""
    memo[id(shared)] = shared
    twin = object.__new__(type(wrapper))
    memo[id(wrapper)] = twin
    vars(twin).update(copy.deepcopy(vars(wrapper), memo))
    return twin


def imported(given: FunctionT | str, argument: str) -> FunctionT:
    """Returns a function that is given as itself or as its import path "package.module:name".

    Raises:
        ConfigError: the path leads nowhere.
    """
    if not isinstance(given, str):
        return given
    module, _, name = given.partition(":")
    try:
        found: FunctionT = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{argument}={given!r} cannot be imported ({error}). Write 'package.module:function'.") from error
    return found


def withholder(env: gym.Env[Any, Any]) -> Callable[[str, ToolResult], None]:
    """Returns what makes the next step return a result for a call of a tool instead of running it.

    Raises:
        ConfigError: the environment has no such method.
    """
    withhold = members.WITHHOLD.through(env)
    if withhold is None:
        raise ConfigError(f"{type(env.unwrapped).__name__} has no method withhold(tool, result), as every ToolEnv has.")
    return withhold
