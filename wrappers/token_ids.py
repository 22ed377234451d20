"""`TokenIds`: observations and actions are token ids."""

import copy
import inspect
import re
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from .remembering import Remembering, copied_but_for, imported

Ids: TypeAlias = NDArray[np.int64]


class Tokenizer(Protocol):
    """What this wrapper needs of a tokenizer; those of `transformers` have it."""

    def encode(self, text: str) -> Sequence[int]:
        """Returns the ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids."""
        ...

    def __len__(self) -> int:
        """Returns the number of ids."""
        ...


class TokenIds(Remembering[Ids, Sequence[int]], RecordConstructorArgs):
    """Returns observations as token ids, and takes actions as token ids.

    Nothing is added to a text, and control tokens never come from one: where an observation contains what a tokenizer
    would read as a control token, it is encoded in two parts. Control tokens in actions are left out of their text.

    Args:
        env: a text environment.
        tokenizer: see `Tokenizer`; or the import path "package.module:name" of a function that makes one, which keeps the
            environment's spec serialisable. It is shared by clones, never copied.

    Raises:
        ConfigError: the import path leads nowhere.

    >>> import gymnasium as gym
    >>> class Letters:
    ...     def encode(self, text): return list(text.encode())
    ...     def decode(self, ids): return bytes(ids).decode()
    ...     def __len__(self): return 256
    >>> env = TokenIds(gym.make("ARPO/Search-v0", cities_per_country=3), Letters())
    >>> question, info = env.reset(seed=7)
    >>> question[:4]
    array([ 87, 104,  97, 116])
    """

    def __init__(self, env: gym.Env[str, str], tokenizer: Tokenizer | str) -> None:
        RecordConstructorArgs.__init__(self, tokenizer=tokenizer, _disable_deepcopy=True)
        Remembering.__init__(self, env)
        self._tokenizer: Any = imported(tokenizer, "tokenizer")() if isinstance(tokenizer, str) else tokenizer
        self._plain = _accepted(self._tokenizer.encode, add_special_tokens=False)
        self._without = _accepted(self._tokenizer.decode, skip_special_tokens=True)
        self._inside = _inside(getattr(self._tokenizer, "all_special_tokens", ()))
        space = gym.spaces.Sequence(gym.spaces.Discrete(len(self._tokenizer)), stack=True)
        self.observation_space: gym.Space[Any] = space
        self.action_space: gym.Space[Any] = copy.deepcopy(space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Ids, dict[str, Any]]:
        """Starts an episode and returns the question's ids."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._returned(self._encoded(observation), info)

    def step(self, action: Sequence[int]) -> tuple[Ids, Any, bool, bool, dict[str, Any]]:
        """Acts with the text of these ids."""
        text = self._tokenizer.decode([int(token) for token in action], **self._without)
        observation, reward, terminated, truncated, info = self.env.step(text)
        ids, info = self._returned(self._encoded(observation), info)
        return ids, reward, terminated, truncated, info

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenIds":
        """Copies everything but the tokenizer, which is read-only."""
        return copied_but_for(self._tokenizer, self, memo)

    def _encoded(self, text: str) -> Ids:
        parts = re.split(self._inside, text) if self._inside else [text]
        return np.array([token for part in parts for token in self._tokenizer.encode(part, **self._plain)], dtype=np.int64)


def _accepted(function: Any, **options: bool) -> dict[str, bool]:
    """Returns those options that a function knows by name, as the methods of `transformers` tokenizers do."""
    known = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in known}


def _inside(marks: Sequence[str]) -> str:
    """Returns a pattern that matches after the first character of each mark, and nowhere else.

    >>> re.split(_inside(["<|end|>"]), "a <|end|>")
    ['a <', '|end|>']
    """
    return "|".join(rf"(?<={re.escape(mark[0])})(?={re.escape(mark[1:])})" for mark in marks if len(mark) > 1)
