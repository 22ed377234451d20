"""`TokenBudget`: ends an episode when its conversation has used up a number of tokens."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import ConfigError, members

from .remembering import Remembering, copied_but_for, imported


class TokenBudget(Remembering[str, str], RecordConstructorArgs):
    """Counts the tokens of observations and actions, warns near the limit, and truncates at it.

    `info["tokens_left"]` says how many tokens are left. An episode that its last action ended stays
    terminated and is not truncated as well; one that is truncated here earns what its environment
    paid until then.

    Args:
        env: a text environment.
        count_tokens: counts a string's tokens; a function, or its import path "package.module:name", which
            keeps the environment's spec serialisable. It is shared by clones, never copied.
        limit: tokens of the whole conversation, at least 1.
        reserve: with fewer tokens left than this, every observation ends with a notice; below `limit`.

    Raises:
        ConfigError: a number makes no sense, or the import path leads nowhere.

    >>> import gymnasium as gym
    >>> env = TokenBudget(gym.make("ARPO/Search-v0", cities_per_country=3), len, limit=1000)
    >>> question, info = env.reset(seed=7)
    >>> info["tokens_left"] == 1000 - len(question)
    True
    """

    def __init__(self, env: gym.Env[str, str], count_tokens: Callable[[str], int] | str, limit: int, reserve: int = 0) -> None:
        # not deep-copied: a tokenizer is large, and some cannot be copied at all
        RecordConstructorArgs.__init__(self, count_tokens=count_tokens, limit=limit, reserve=reserve, _disable_deepcopy=True)
        Remembering.__init__(self, env)
        if limit < 1:
            raise ConfigError(f"limit must be at least 1 token, got {limit}.")
        if not 0 <= reserve < limit:
            raise ConfigError(f"reserve must lie in 0..{limit - 1} (below the limit of {limit} tokens), got {reserve}.")
        self._count_tokens = imported(count_tokens, "count_tokens")
        self._limit, self._reserve = limit, reserve
        self._used = 0

    @property
    def tokens_left(self) -> int:
        """Tokens that the conversation may still use; never negative."""
        return max(0, self._limit - self._used)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts a conversation with a full budget, less the question's tokens."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._used = 0
        return self._spent(observation, info, over=False)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Takes the action's and the observation's tokens from the budget."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._used += self._count_tokens(action)
        observation, info = self._spent(observation, info, over=terminated or truncated)
        if not (terminated or truncated) and self.tokens_left == 0:
            truncated = True
            paid = members.FORFEIT.through(self.env)()  # an episode without an answer pays what the environment says
            reward = reward if paid is None else paid
        return observation, reward, terminated, truncated, info

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenBudget":
        """Copies everything but the token counter, which is read-only."""
        return copied_but_for(self._count_tokens, self, memo)

    def _spent(self, observation: str, info: dict[str, Any], *, over: bool) -> tuple[str, dict[str, Any]]:
        """Counts an observation, adds the notice where one is due, and keeps what is returned."""
        tokens = self._count_tokens(observation)
        left = self._limit - self._used - tokens
        if left < self._reserve and not over:
            said = "No tokens are left." if left <= 0 else f"Only {left} tokens are left: answer now."
            observation = f"{observation}\n{said}"
            tokens = self._count_tokens(observation)  # the notice is read too, and paid for
        self._used += tokens
        return self._returned(observation, {**info, "tokens_left": self.tokens_left})
