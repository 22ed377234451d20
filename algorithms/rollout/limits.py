"""The dataclasses that describe a rollout: which episode, and its limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym

from arpo_envs import ConfigError

TextEnv = gym.Env[Any, Any]
MakeEnv = Callable[[], TextEnv]


@dataclass(frozen=True)
class Start:
    """Which episode a tree belongs to: the arguments of the environment's `reset`."""

    seed: int
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Limits:
    """How a rollout runs, and how much it may use.

    Raises:
        ConfigError: a number is out of range.
    """

    mode: Literal["deterministic", "free"] = "deterministic"
    """deterministic: the same seed gives the same bytes. free: no path waits for another, and identical bytes are not
    promised."""
    budget: Literal["shared", "per_root"] = "shared"
    """shared: all forks of a prompt draw on one pool, as in the paper; in deterministic mode they do so in key order.
    per_root: each root has its share, and each fork a part of that, so that even in free mode the shape of a tree does not
    depend on who comes first."""
    temperature: float = 1.0
    """Sampling temperature; the learner computes its log-probabilities at the same one. Greedy decoding, 0, is for evaluation
    only."""
    action_tokens: int = 512
    """Maximum tokens per action."""
    answer_reserve: int = 64
    """Tokens of the context that no observation may fill."""
    policy_timeout: float = 600.0
    """Maximum seconds for one generation."""
    tool_timeout: float = 120.0
    """Maximum seconds for one environment step, clone or snapshot."""
    threads: int = 64
    """Maximum tool calls at the same time."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.action_tokens < 1:
            raise ConfigError(f"action_tokens must be at least 1, got {self.action_tokens}.")


def split_evenly(total: int, parts: int) -> list[int]:
    """Returns `total` in `parts` shares that differ by at most one, the larger ones first.

    >>> split_evenly(5, 3)
    [2, 2, 1]
    """
    return [total // parts + (part < total % parts) for part in range(parts)]
