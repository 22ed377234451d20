"""`TextVector`: observations are numbers, for learners that know no text."""

import re
import zlib
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from arpo_envs import ConfigError

from .remembering import Remembering

Vector = NDArray[np.float32]


class TextVector(Remembering[Vector, Any], RecordConstructorArgs):
    """Turns what is seen into a vector of fixed size: which words are in the question, and which in the last observation.

    Words are numbered by a checksum modulo `size`, so nothing has to be learned or stored and every process agrees, but two
    words may share a number. The first half of the vector is the question's, since a learner that sees only the last
    observation would forget it.

    Args:
        env: an environment whose observations are text; its actions may be of any kind.
        size: numbers in each half, at least 1.

    Raises:
        ConfigError: the size is below 1.

    >>> import gymnasium as gym
    >>> env = TextVector(gym.make("ARPO/Search-v0", cities_per_country=3), size=64)
    >>> vector, info = env.reset(seed=7)
    >>> vector.shape, vector in env.observation_space
    ((128,), True)
    """

    def __init__(self, env: gym.Env[str, Any], size: int = 256) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        Remembering.__init__(self, env)
        if size < 1:
            raise ConfigError(f"size must be at least 1, got {size}.")
        self._size = size
        self._question: Vector = np.zeros(size, np.float32)
        self.observation_space: gym.Space[Any] = gym.spaces.Box(0.0, 1.0, (2 * size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Starts an episode; the question fills both halves."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._question = self._words(observation)
        return self._returned(np.concatenate([self._question, self._question]), info)

    def step(self, action: Any) -> tuple[Vector, Any, bool, bool, dict[str, Any]]:
        """Acts, and returns the question with what came back."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        vector, info = self._returned(np.concatenate([self._question, self._words(observation)]), info)
        return vector, reward, terminated, truncated, info

    def _words(self, text: str) -> Vector:
        numbers = [zlib.crc32(word.encode()) % self._size for word in re.findall(r"\w+", text.lower())]
        vector = np.zeros(self._size, np.float32)
        vector[numbers] = 1.0
        return vector
