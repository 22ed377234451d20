"""The records a rollout is described by: which episodes, and what they may take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym

TextEnv = gym.Env[Any, Any]
MakeEnv = Callable[[], TextEnv]


@dataclass(frozen=True)
class Start:
    """Which episode a tree belongs to: the arguments of the environment's `reset`."""

    seed: int
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Limits:
    """What a rollout may take.

    Args:
        mode: "deterministic": a logical clock; the same seed gives the same bytes. "free": no path
            waits for another.
        budget: "shared": forks of a prompt draw on one pool, as in the paper, served in key order in
            deterministic mode; "per_root": each root has its share and each fork its part of that, so that
            in free mode the shape of a tree does not depend on arrival.
        temperature: of sampling; 0 is greedy.
        action_tokens: longest action.
        answer_reserve: tokens of the context that no observation may fill.
        policy_timeout: seconds for one generation.
        tool_timeout: seconds for one environment step, clone or snapshot.
        threads: tool calls at the same time.
    """

    mode: Literal["deterministic", "free"] = "deterministic"
    budget: Literal["shared", "per_root"] = "shared"
    temperature: float = 1.0
    action_tokens: int = 512
    answer_reserve: int = 64
    policy_timeout: float = 600.0
    tool_timeout: float = 120.0
    threads: int = 64


def split_evenly(total: int, parts: int) -> list[int]:
    """Returns `total` in `parts` shares that differ by at most one, the larger ones first.

    >>> split_evenly(5, 3)
    [2, 2, 1]
    """
    return [total // parts + (part < total % parts) for part in range(parts)]
