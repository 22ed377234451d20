"""What every environment of somebody else's needs to be one of ours; `copied` and `replayed` add how it forks."""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym

from ..errors import ConfigError
from ..forking import describe, stack_identity
from ..members import AGENT, ANCHOR, DIALECT, FORFEIT, INSTRUCTIONS, MAX_TURNS, MEASURES, TOOL_SPECS, TOOL_TIMEOUT

Env = gym.Env[Any, Any]
MakeEnv = Callable[[], Env]

_SAID = (AGENT, DIALECT, INSTRUCTIONS, MAX_TURNS, TOOL_SPECS, TOOL_TIMEOUT)
"""What a renderer or a trainer asks of an environment before its episode, or in it, and never changes."""


class Adopted(Env):
    """An environment that remembers what another one, made by `make_env`, last returned.

    Args:
        make_env: makes the other one, with its wrappers.

    Raises:
        ConfigError: it makes something else.
    """

    configuration = frozenset({"make_env", "name", "metadata", "observation_space", "action_space", "render_mode", "spec"}) | {
        *("_identity", *(member.name for member in _SAID))
    }

    def __init__(self, make_env: MakeEnv) -> None:
        env = make_env()
        if not isinstance(env, gym.Env):
            raise ConfigError(f"make_env() must return a Gymnasium environment, got {type(env).__name__}.")
        self.make_env, self.name, self._identity = make_env, describe(env), "|".join(stack_identity(env))
        self.metadata, self.render_mode = env.metadata, env.render_mode
        self.observation_space, self.action_space = env.observation_space, env.action_space
        for member in _SAID:
            if env.has_wrapper_attr(member.name):
                setattr(self, member.name, member.through(env))
        self._env: Env | None = env
        self._running = False
        self._returned: tuple[Any, dict[str, Any]] = (None, {})
        self._told: tuple[str | None, float | None, dict[str, float]] = (None, None, {})

    @property
    def live(self) -> Env:
        """The other environment, in the state of the episode."""
        if self._env is None:
            raise gym.error.ResetNeeded(f"{self.name} was closed: call reset() before anything else.")
        return self._env

    def _require_running(self) -> None:
        if not self._running:
            raise gym.error.ResetNeeded("The episode is over (or never began): call reset() before step().")

    def _returns(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Remembers what is returned and what may be asked next, and returns copies, which belong to the caller."""
        self._returned = copy.deepcopy((observation, dict(info)))
        env = self.live
        self._told = (ANCHOR.through(env)(), FORFEIT.through(env)(), dict(MEASURES.through(env)()))
        return self.last()

    def last(self) -> tuple[Any, dict[str, Any]]:
        """Returns the observation and info that the last reset or step returned."""
        return copy.deepcopy(self._returned)

    def render(self) -> Any:
        """Returns what the other environment renders."""
        return self.live.render()

    def close(self) -> None:
        """Ends the episode and closes the other environment."""
        self.release()
        self._running = False

    def release(self) -> None:
        """Closes the other environment."""
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def identity(self) -> str:
        """Returns what a snapshot's environment and this one must agree on."""
        return self._identity

    def anchor(self) -> str | None:
        """Returns what the other environment calls its state."""
        return self._told[0]

    def forfeit(self) -> float | None:
        """Returns what the other environment would pay without an answer."""
        return self._told[1]

    def measures(self) -> dict[str, float]:
        """Returns what the other environment measured of the episode."""
        return dict(self._told[2])
