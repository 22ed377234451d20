"""`TurnLimit`: tells the model how many turns are left, and ends an episode that has none."""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import TimeLimit

from arpo_envs import ConfigError, layers, members

from .remembering import Remembering


class TurnLimit(Remembering[str, str], RecordConstructorArgs):
    """Ends every observation with the number of turns left, and truncates an episode that used them up.

    `info["turns_left"]` holds the number. A limit further inside (`max_turns`, `TimeLimit`) that is lower counts instead,
    so what the model is told is true. An episode that is truncated here earns what its environment pays without an answer.

    Args:
        env: a text environment.
        limit: turns of an episode, at least 1; None for the environment's own limit.

    Raises:
        ConfigError: the limit is below 1, or there is none at all.

    >>> import gymnasium as gym
    >>> env = TurnLimit(gym.make("ARPO/Search-v0", cities_per_country=3), limit=2)
    >>> question, info = env.reset(seed=7)
    >>> print(env.step("<search>Bordeaux</search>")[0].splitlines()[-1])
    1 turn is left: answer now.
    """

    def __init__(self, env: gym.Env[str, str], limit: int | None = None) -> None:
        RecordConstructorArgs.__init__(self, limit=limit)
        Remembering.__init__(self, env)
        if limit is not None and limit < 1:
            raise ConfigError(f"limit must be at least 1 turn, got {limit}.")
        self._own = math.inf if limit is None else limit
        self._limit = self._lowest()
        self._turns = 0

    @property
    def max_turns(self) -> int:
        """Turns of an episode: the lowest limit from here inwards."""
        return self._limit

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode with all its turns."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._limit, self._turns = self._lowest(), 0  # episodes of a mixture differ
        return self._told(observation, info, over=False)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Takes one turn."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._turns += 1
        observation, info = self._told(observation, info, over=terminated or truncated)
        if not (terminated or truncated) and self._turns >= self._limit:
            truncated = True
            paid = members.FORFEIT.through(self.env)()
            reward = reward if paid is None else paid
        return observation, reward, terminated, truncated, info

    def _lowest(self) -> int:
        """Returns the turns of an episode."""
        lowest = min([self._own, members.MAX_TURNS.through(self.env), *_time_limits(self.env)])
        if lowest == math.inf:
            raise ConfigError("The environment has no limit of its own: give TurnLimit one.")
        return int(lowest)

    def _told(self, observation: str, info: dict[str, Any], *, over: bool) -> tuple[str, dict[str, Any]]:
        left = max(0, self._limit - self._turns)
        if not over:
            said = {0: "No turns are left.", 1: "1 turn is left: answer now."}.get(left, f"{left} turns are left.")
            observation = f"{observation}\n{said}"
        return self._returned(observation, {**info, "turns_left": left})


def _time_limits(env: gym.Env[Any, Any]) -> Iterator[int]:
    """Yields the steps that Gymnasium's own wrapper allows; asking `env.spec` would make every clone copy that."""
    for layer in layers(env):
        if isinstance(layer, TimeLimit):
            yield layer._max_episode_steps
