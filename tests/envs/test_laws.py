"""The laws of every registered environment, alone and in the stacks that people put it in."""

import functools
import re
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import arpo_envs
from arpo_envs.testing import Law, check_forkable_env
from arpo_envs.tools.python import SandboxUnavailable
from wrappers import TokenBudget, Transcript

IDS = sorted(name for name, spec in gym.registry.items() if spec.namespace == "ARPO")
SMALL: dict[str, dict[str, Any]] = {
    "ARPO/Search-v0": {"cities_per_country": 3},
    "ARPO/Browser-v0": {"cities_per_country": 3},
    "ARPO/DeepSearchSolver-v0": {"cities_per_country": 3},
    "ARPO/DeepSearch-v0": {"cities_per_country": 3, "interpreter": {"imports": []}},
    "ARPO/Python-v0": {"interpreter": {"imports": []}},
    "ARPO/Mixture-v0": {"envs": {"ARPO/Search-v0": 1.0, "ARPO/Browser-v0": 1.0}, "cities_per_country": 3},
}
"""Arguments that make an environment quick to build; the laws do not depend on its size."""

QUICK = "ARPO/SearchMini-v0"
"""Checked in every stack at once; of the others, all stacks but one are left to the slow tests."""

STACKS = {  # our wrappers alone are in `test_wrapper_laws`
    "unwrapped": lambda env: env.unwrapped,
    "gym.make": lambda env: env,
    "TimeLimit": lambda env: TimeLimit(env, 3),
    "RecordEpisodeStatistics": RecordEpisodeStatistics,
    "all": lambda env: Transcript(TokenBudget(RecordEpisodeStatistics(TimeLimit(env, 4)), "builtins:len", limit=1500)),
}

every_id = pytest.mark.parametrize("name", IDS)
every_id_in_every_stack = pytest.mark.parametrize(
    ("name", "stack"),
    [
        pytest.param(name, stack, marks=[pytest.mark.slow] if name != QUICK and stack != "all" else [])
        for name in IDS
        for stack in STACKS
    ],
)


@functools.cache
def missing(name: str) -> str:
    """Returns why an environment cannot run on this machine, "" if it can."""
    env = gym.make(name, **SMALL.get(name, {}))
    try:
        env.reset(seed=0)
    except SandboxUnavailable as reason:
        return str(reason)
    finally:
        env.close()
    return ""


def made(name: str, **kwargs: Any) -> gym.Env:
    if missing(name):
        pytest.skip(f"{name}: {missing(name)}")
    return gym.make(name, **SMALL.get(name, {}), **kwargs)


def test_there_is_something_to_check():
    assert "ARPO/Search-v0" in IDS


@every_id_in_every_stack
def test_forks_by_the_laws(name, stack):
    seeds = (0, 1) if name == QUICK else ([*STACKS].index(stack) % 2,)  # which take turns
    report = check_forkable_env(lambda: STACKS[stack](made(name)), seeds=seeds)
    assert set(report.skipped) <= {Law.RESEED, Law.PORTABLE, Law.TIMEOUT, Law.SECRETS}, str(report)
    if (name, stack) == ("ARPO/Python-v0", "gym.make"):  # cells draw random numbers, whatever the wrappers do
        assert Law.RESEED in report.passed, str(report)


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        pytest.param(name, dialect, marks=[pytest.mark.slow] if name != QUICK else [])
        for name in IDS
        for dialect in ("tags", "json")
        if name == QUICK or dialect != "tags"  # which all stacks above have, as nothing else is said
    ],
)
def test_forks_in_both_dialects(name, dialect):
    assert check_forkable_env(lambda: made(name, dialect=dialect), seeds=(5,)).ok


@pytest.mark.parametrize("dialect", ["tags", "json"])
@every_id
def test_instructions_name_every_argument_of_every_tool(name, dialect):
    env = gym.make(name, dialect=dialect, **SMALL.get(name, {})).unwrapped
    for spec in env.tool_specs:
        for argument in spec.parameters.get("properties", {}):
            assert re.search(rf"\b{re.escape(argument)}\b", env.instructions), f"{spec.name} takes {argument}"
    env.close()


@every_id
def test_gymnasium_accepts_it(name):
    check_env(made(name).unwrapped)


@every_id
def test_any_action_is_answered(name):
    env = made(name)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(60):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert {"task", "turn", "tool_calls", "tool", "status"} <= set(info)
        if terminated or truncated:
            env.reset()


@every_id
def test_vectors(name):
    made(name).close()
    envs = gym.make_vec(name, num_envs=2, vectorization_mode="sync", **SMALL.get(name, {}))
    observations, _ = envs.reset(seed=[1, 2])
    alone = [made(name).reset(seed=seed)[0] for seed in (1, 2)]
    assert list(observations) == alone
    observations, _, terminations, _, _ = envs.step(["junk", "junk"])
    assert all(isinstance(observation, str) and observation for observation in observations)
    assert not terminations.any()
    envs.close()


@every_id_in_every_stack
def test_specs_serialise(name, stack):
    env = STACKS[stack](made(name))
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    question, info = env.reset(seed=4)
    assert again.reset(seed=4) == (question, info)
    assert arpo_envs.layers(again)[-1].instructions == env.unwrapped.instructions
