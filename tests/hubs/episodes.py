"""One episode of an expert, recorded through bare Gymnasium: every hub must show the same, to the byte."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np

import arpo_envs

SEED = 11
IDS: Mapping[str, Mapping[str, Any]] = {
    "ARPO/Search-v0": {"cities_per_country": 2},
    "ARPO/SearchMini-v0": {},
    "ARPO/Python-v0": {},
    "ARPO/Browser-v0": {"cities_per_country": 2},
    "ARPO/DeepSearch-v0": {"cities_per_country": 2},
}
"""Every id that is compared, with its arguments."""


@dataclass(frozen=True)
class Recorded:
    """The expert's episode: one observation more than actions, one reward for each action."""

    env_id: str
    arguments: Mapping[str, Any]
    task: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    actions: tuple[str, ...]
    observations: tuple[str, ...]
    rewards: tuple[float, ...]


@cache
def recorded(env_id: str, dialect: str = "tags") -> Recorded:
    arguments = {**IDS[env_id], "dialect": dialect}
    env = gym.make(env_id, **arguments)
    question, info = env.reset(seed=SEED)
    base = env.unwrapped
    moves = base.tasks.demonstrate(base.task, np.random.default_rng(0), perfect=True)
    calls, actions, observations, rewards = [], [], [question], []
    for name, text in moves:
        given = {"text": text} if name == "answer" else arguments_of(base, name, text)
        actions.append(base.dialect.answer(text) if name == "answer" else base.dialect.call(name, given))
        calls.append((name, given))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    assert terminated
    assert not truncated
    assert sum(rewards) >= 1  # with what is paid for several tools
    env.close()
    return Recorded(env_id, arguments, info["task"], tuple(calls), tuple(actions), tuple(observations), tuple(rewards))


def arguments_of(env: arpo_envs.ToolEnv, name: str, text: str) -> dict[str, Any]:
    parameter = next(spec.text_parameter for spec in env.tool_specs if spec.name == name)
    return json.loads(text) if parameter is None else {parameter: text}
