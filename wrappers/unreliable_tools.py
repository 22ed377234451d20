"""`UnreliableTools`: tools that are slow, fail and time out, as often as you like and reproducibly."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import Call, ConfigError, ToolResult, members

from .remembering import Remembering, copied_but_for, imported, withholder


class UnreliableTools(Remembering[str, str], RecordConstructorArgs):
    """Delays calls of tools, and makes some of them fail or time out.

    A call that fails does not reach its tool. Delays are log-normal; one that is longer than the environment's
    `tool_timeout` is a time-out, and every time-out takes that long (or the drawn delay, without such a limit). What is drawn
    depends on `seed`, on the seeds given to `reset`, and on the calls made; the generator's state belongs to snapshots and
    clones. `info["delay"]` holds the seconds.

    Args:
        env: a `ToolEnv`, in any wrappers.
        error_rate: share of calls that fail, in [0, 1].
        timeout_rate: share of calls that time out, in [0, 1]; the two together at most 1.
        latency: median delay of a call, in seconds.
        spread: standard deviation of the delay's natural logarithm; 0 for equal delays.
        seed: of what is drawn.
        sleep: waits for a number of seconds; a function, or its import path "package.module:name". It is shared by clones,
            never copied.

    Raises:
        ConfigError: the environment cannot withhold a tool, a number makes no sense, or the import path leads nowhere.

    >>> import gymnasium as gym
    >>> env = UnreliableTools(gym.make("ARPO/Search-v0", cities_per_country=3), error_rate=1.0)
    >>> question, info = env.reset(seed=7)
    >>> print(env.step("<search>Bordeaux</search>")[0])
    <result>search failed: the service is not available. Try again.</result>
    """

    def __init__(
        self,
        env: gym.Env[str, str],
        *,
        error_rate: float = 0.0,
        timeout_rate: float = 0.0,
        latency: float = 0.0,
        spread: float = 0.5,
        seed: int = 0,
        sleep: Callable[[float], object] | str = "time:sleep",
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            error_rate=error_rate,
            timeout_rate=timeout_rate,
            latency=latency,
            spread=spread,
            seed=seed,
            sleep=sleep,
            _disable_deepcopy=True,  # `sleep` may belong to something that cannot be copied
        )
        Remembering.__init__(self, env)
        withholder(env)  # raises where there is none
        if min(error_rate, timeout_rate) < 0 or error_rate + timeout_rate > 1:
            raise ConfigError(f"The rates must not be negative and at most 1 together, got {error_rate} and {timeout_rate}.")
        if not (0 <= latency < math.inf and 0 <= spread < math.inf):
            raise ConfigError(f"latency and spread must not be negative, got {latency} and {spread}.")
        self._error_rate, self._timeout_rate = error_rate, timeout_rate
        self._latency, self._spread = latency, spread
        self._seed = seed
        self._sleep = imported(sleep, "sleep")
        self._draws = np.random.default_rng(seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode; what is drawn in it depends on its seed, if it has one."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._draws = np.random.default_rng([self._seed, seed])
        return self._returned(observation, {**info, "delay": 0.0})

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Waits, and passes on the action or what takes the place of its result."""
        dialect = members.DIALECT.through(self.env)
        call = dialect.parse(action) if dialect is not None and isinstance(action, str) else None
        delay = self._disturbed(call.tool) if isinstance(call, Call) else 0.0
        if delay > 0:
            self._sleep(delay)
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._returned(observation, {**info, "delay": delay})
        return observation, reward, terminated, truncated, info

    def __deepcopy__(self, memo: dict[int, Any]) -> "UnreliableTools":
        """Copies everything but `sleep`: clones wait by the same clock."""
        return copied_but_for(self._sleep, self, memo)

    def _disturbed(self, tool: str) -> float:
        """Draws what happens to a call, sees to it, and returns the delay in seconds."""
        chance, noise = self._draws.random(), self._draws.standard_normal()
        delay = self._latency * math.exp(self._spread * noise)
        allowed = members.TOOL_TIMEOUT.through(self.env)
        if chance < self._timeout_rate or delay > allowed:
            delay = allowed if allowed < math.inf else delay
            withholder(self.env)(tool, ToolResult(f"{tool} timed out after {delay:g} s. Try again.", "timeout"))
        elif chance < self._timeout_rate + self._error_rate:
            said = f"{tool} failed: the service is not available. Try again."
            withholder(self.env)(tool, ToolResult(said, "unavailable"))
        return delay
