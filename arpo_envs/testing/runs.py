"""Records of episodes, and how two of them differ."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from ..copies import copied
from ..forking import layers
from ..members import LAST

Env = gym.Env[Any, Any]

_CLOCKS = (("episode", "t"),)
"""Where Gymnasium itself puts wall-clock time into info (`RecordEpisodeStatistics`): never compared."""


@dataclass(frozen=True)
class Step:
    """What one reset or step returned, copied, so that nothing can change it later."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]

    @property
    def over(self) -> bool:
        """Whether the episode ended here."""
        return self.terminated or self.truncated


Trace = tuple[Step, ...]
Watch = Callable[[Any, dict[str, Any]], None]
"""Receives each observation and info as returned, not a copy."""


def start(env: Env, seed: int, watch: Watch | None = None) -> Step:
    """Resets and records; the reward is 0."""
    observation, info = env.reset(seed=seed)
    step = Step(copy.deepcopy(observation), 0.0, False, False, without_clocks(info))
    if watch is not None:
        watch(observation, info)
    return step


def act(env: Env, actions: Iterable[Any], watch: Watch | None = None) -> Trace:
    """Takes the actions until they or the episode end, and records every step."""
    steps: list[Step] = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        steps.append(Step(copy.deepcopy(observation), float(reward), bool(terminated), bool(truncated), without_clocks(info)))
        if watch is not None:
            watch(observation, info)
        if steps[-1].over:
            break
    return tuple(steps)


def last_return(env: Env) -> Any:
    """Returns a copy of what the stack says it last returned, or None if no layer keeps that."""
    recorder = next((layer for layer in layers(env) if LAST.of(layer) is not None), None)
    return None if recorder is None else copy.deepcopy(recorder.last())  # type: ignore[attr-defined]  # checked just now


def without_clocks(info: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of an info dictionary without wall-clock times."""
    twin = copied(info, {})
    for outer, inner in _CLOCKS:
        if isinstance(twin.get(outer), dict):
            twin[outer].pop(inner, None)
    return twin


class Deviation(NamedTuple):
    """How a run differs from the one it should repeat: what happened, what was expected, and after how many steps."""

    happened: str
    expected: str
    step: int


def deviation(seen: Trace, wanted: Trace) -> Deviation | None:
    """Returns where a run first differs from the one it should repeat, or None."""
    for number, (one, other) in enumerate(zip(seen, wanted, strict=False), start=1):
        for name in ("observation", "reward", "terminated", "truncated", "info"):
            found = difference(getattr(one, name), getattr(other, name), name)
            if found is not None:
                return Deviation(*found, number)
    if len(seen) != len(wanted):
        both = min(len(seen), len(wanted))
        return Deviation(f"the episode took {len(seen)} further steps", f"{len(wanted)} further steps", both)
    return None


def difference(one: Any, other: Any, path: str) -> tuple[str, str] | None:
    """Returns where two values first differ: ("path is …", "…"), or None when they are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _mapping_difference(one, other, path)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next((found for i, (a, b) in pairs if (found := difference(a, b, f"{path}[{i}]"))), None)
    if _equal(one, other):
        return None
    return f"{path} is {_short(one)}", _short(other)


def _mapping_difference(one: Mapping[Any, Any], other: Mapping[Any, Any], path: str) -> tuple[str, str] | None:
    if set(one) != set(other):
        return f"{path} has the keys {sorted(map(str, one))}", f"the keys {sorted(map(str, other))}"
    return next((found for key in one if (found := difference(one[key], other[key], f"{path}[{key!r}]"))), None)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
            return False
        return one.dtype == other.dtype and one.shape == other.shape and repr(one.tolist()) == repr(other.tolist())
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return type(one) is type(other) and bool(one == other)


def _short(value: Any, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
