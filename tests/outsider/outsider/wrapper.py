"""Counts the calls that failed: docs/add-a-wrapper.md."""

import copy
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import ForkLevel


class CountsFailures(gym.Wrapper, RecordConstructorArgs):
    """Says how many calls have failed, and takes something from the last reward for each."""

    fork_level = ForkLevel.EXACT

    def __init__(self, env: gym.Env, cost: float = 0.1) -> None:
        RecordConstructorArgs.__init__(self, cost=cost)
        gym.Wrapper.__init__(self, env)
        self.cost, self.failed = cost, 0
        self._last: tuple[str, dict[str, Any]] = ("", {})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.failed = 0
        return self._said(*self.env.reset(seed=seed, options=options))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.count(info)
        if terminated or truncated:
            reward -= self.cost * self.failed
        observation, info = self._said(observation, info)
        return observation, reward, terminated, truncated, info

    def count(self, info: dict[str, Any]) -> None:
        self.failed += bool(info["tool"]) and info["status"] != "ok"

    def last(self) -> tuple[str, dict[str, Any]]:
        return copy.deepcopy(self._last)

    def _said(self, observation: str, info: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        info = {**info, "failed": self.failed}
        self._last = (observation, copy.deepcopy(info))
        return observation, info


def counted(cost: float = 0.1, **options: Any) -> gym.Env:
    """Returns the whole stack."""
    return CountsFailures(gym.make("Outsider/Ledger-v0", disable_env_checker=True, **options), cost)
