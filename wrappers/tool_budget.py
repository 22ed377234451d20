"""`ToolBudget`: limits the calls of each tool, and tells the model how many are left."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import ConfigError, ToolResult, members

from .remembering import Remembering, withholder


class ToolBudget(Remembering[str, str], RecordConstructorArgs):
    """Ends every observation with the calls that are left of each tool, and refuses a call when none is left.

    A refused call takes a turn but runs nothing. `info["calls_left"]` holds the numbers.

    Args:
        env: a `ToolEnv`, in any wrappers.
        limits: calls for each tool by name, or one number that holds for each of them; tools without one are free.

    Raises:
        ConfigError: the environment cannot withhold a tool, has no such tool, or a number is negative.

    >>> import gymnasium as gym
    >>> env = ToolBudget(gym.make("ARPO/Search-v0", cities_per_country=3), {"search": 2})
    >>> question, info = env.reset(seed=7)
    >>> print(env.step("<search>Bordeaux</search>")[0].splitlines()[-1])
    Calls left: search 1.
    """

    def __init__(self, env: gym.Env[str, str], limits: Mapping[str, int] | int) -> None:
        RecordConstructorArgs.__init__(self, limits=limits if isinstance(limits, int) else dict(limits))
        Remembering.__init__(self, env)
        tools = [spec.name for spec in members.TOOL_SPECS.through(env)]
        withholder(env)  # raises where there is none
        self._limits = dict.fromkeys(tools, limits) if isinstance(limits, int) else dict(limits)
        if strange := sorted(set(self._limits) - set(tools)):
            raise ConfigError(f"There is no tool {strange[0]!r}; the environment has: {', '.join(tools) or 'none'}.")
        if wrong := [name for name, calls in self._limits.items() if calls < 0]:
            raise ConfigError(f"A limit must not be negative, got {self._limits[wrong[0]]} for {wrong[0]}.")
        self._left = dict(self._limits)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode with all its calls."""
        observation, info = self.env.reset(seed=seed, options=options)
        offered = {spec.name for spec in members.TOOL_SPECS.through(self.env)}  # an episode of a mixture has fewer
        self._left = {name: calls for name, calls in self._limits.items() if name in offered}
        return self._told(observation, info, over=False)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Takes a call that was made from its tool's budget."""
        withhold = withholder(self.env)
        for name, left in self._left.items():
            if left == 0:
                withhold(name, ToolResult(f"No calls of {name} are left.", "limit"))
        observation, reward, terminated, truncated, info = self.env.step(action)
        if (name := info.get("tool")) in self._left:
            self._left[name] -= 1
        observation, info = self._told(observation, info, over=terminated or truncated)
        return observation, reward, terminated, truncated, info

    def _told(self, observation: str, info: dict[str, Any], *, over: bool) -> tuple[str, dict[str, Any]]:
        if not over and self._left:
            listed = ", ".join(f"{name} {left}" for name, left in self._left.items())
            observation = f"{observation}\nCalls left: {listed}."
        return self._returned(observation, {**info, "calls_left": dict(self._left)})
