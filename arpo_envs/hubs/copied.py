"""An environment whose deep copy is right, as one that forks at level EXACT."""

import copy
from typing import Any, ClassVar

import numpy as np

from ..forking import ForkLevel, reseed, reseeded
from .adopted import Adopted, MakeEnv


def copied(make_env: MakeEnv) -> "Copied":
    """Returns an environment that forks by a deep copy of the one that `make_env` makes.

    Nothing is checked here: `forkable` finds out first whether such a copy is right.

    Args:
        make_env: makes an environment of Gymnasium, wrappers included.

    Raises:
        ConfigError: it makes something else.

    >>> import gymnasium as gym, arpo_envs
    >>> env = copied(lambda: gym.make("CartPole-v1"))
    >>> first, info = env.reset(seed=1)
    >>> twin = arpo_envs.clone(env)
    >>> bool((env.step(1)[0] == twin.step(1)[0]).all())
    True
    """
    return Copied(make_env)


class Copied(Adopted):
    """An environment that forks by a deep copy; see `copied`."""

    fork_level: ClassVar[ForkLevel] = ForkLevel.EXACT
    shared: ClassVar[frozenset[str]] = Adopted.configuration

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; `seed` and `options` as in the other environment."""
        super().reset(seed=seed)
        self._running = False
        if self._env is None:
            self._env = self.make_env()
        returned = self._returns(*self._env.reset(seed=seed, options=options))
        self._running = True
        return returned

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes one action.

        Raises:
            ResetNeeded: the episode has ended, or never began.
        """
        self._require_running()
        observation, reward, terminated, truncated, info = self.live.step(action)
        self._running = not (terminated or truncated)
        observation, info = self._returns(observation, info)
        return observation, float(reward), bool(terminated), bool(truncated), info

    def reseed(self, seed: int) -> None:
        """Makes the randomness of the other environment a function of `seed`, as `arpo_envs.reseed` does."""
        self.np_random = reseeded(self.np_random, [seed])
        if self._env is not None:
            reseed(self._env, int(np.random.SeedSequence([seed]).generate_state(1)[0]))

    def copied_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Returns a copy of all attributes; what says how it was built is shared."""
        return {name: value if name in self.shared else copy.deepcopy(value, memo) for name, value in vars(self).items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Copied":
        """Makes a user's own `copy.deepcopy` correct, too."""
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(self.copied_state(memo))
        return twin
