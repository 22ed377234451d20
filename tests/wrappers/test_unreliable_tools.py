"""`UnreliableTools`: what it does to calls follows its rates, is reproducible, and forks."""

import math
import threading

import numpy as np
import pytest
from toys import TownEnv, Walk

from arpo_envs import ConfigError, clone, restore, snapshot
from wrappers import ToolBudget, UnreliableTools

NOTE = "<note>hi</note>"


class Clock:
    """Sleeps by remembering for how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.lock = threading.Lock()  # which cannot be copied

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.slept.append(seconds)


def made(**kwargs) -> UnreliableTools:
    env = UnreliableTools(TownEnv(max_turns=2000), **({"sleep": "builtins:abs"} | kwargs))
    env.unwrapped.max_tool_calls = 2000
    return env


def statuses(env, count: int = 30) -> list[str]:
    return [env.step(NOTE)[4]["status"] for _ in range(count)]


def test_rates_are_kept():
    env = made(error_rate=0.3, timeout_rate=0.1)
    env.reset(seed=1)
    seen = statuses(env, 1000)
    assert seen.count("unavailable") == pytest.approx(300, abs=60)  # four standard deviations are 58
    assert seen.count("timeout") == pytest.approx(100, abs=40)  # and 38
    assert set(seen) == {"ok", "unavailable", "timeout"}


def test_a_failed_call_does_not_reach_its_tool_but_counts():
    env = made(error_rate=1.0)
    env.reset(seed=0)
    observation, *_, info = env.step(NOTE)
    assert observation == "<result>note failed: the service is not available. Try again.</result>"
    assert (info["tool"], info["status"], info["tool_calls"], info["turn"]) == ("note", "unavailable", 1, 1)
    assert env.unwrapped.sessions[1].notes == []
    assert env.unwrapped._tools_used == frozenset()


def test_only_calls_are_delayed():
    clock = Clock()
    env = made(latency=0.5, spread=0.0, sleep=clock.sleep)
    assert env.reset(seed=0)[1]["delay"] == 0.0
    assert env.step("junk")[4]["delay"] == 0.0
    assert env.step(NOTE)[4]["delay"] == 0.5
    assert env.step("<answer>x</answer>")[4]["delay"] == 0.0
    assert clock.slept == [0.5]


def test_clones_wait_by_the_same_clock():
    clock = Clock()
    env = made(latency=0.5, spread=0.0, sleep=clock.sleep)
    env.reset(seed=0)
    twin = clone(env)
    with snapshot(env) as snap:
        twin.step(NOTE)
        restore(env, snap)
    env.step(NOTE)
    assert clock.slept == [0.5, 0.5]


def test_delays_are_log_normal_and_slept():
    clock = Clock()
    env = made(latency=2.0, spread=0.7, sleep=clock.sleep)
    env.reset(seed=0)
    delays = [env.step(NOTE)[4]["delay"] for _ in range(1000)]
    assert clock.slept == delays
    logarithms = np.log(delays)
    assert logarithms.mean() == pytest.approx(math.log(2.0), abs=0.09)  # four standard errors
    assert logarithms.std() == pytest.approx(0.7, abs=0.07)


def test_a_delay_beyond_the_limit_is_a_time_out_that_takes_the_limit():
    env = made(latency=100.0, spread=0.0)
    env.reset(seed=0)
    observation, *_, info = env.step(NOTE)
    assert observation == "<result>note timed out after 30 s. Try again.</result>"
    assert (info["status"], info["delay"]) == ("timeout", 30.0)
    assert env.unwrapped.sessions[1].notes == []


def test_seeds_decide():
    def run(own: int, reset: int) -> list[str]:
        env = made(error_rate=0.5, seed=own)
        env.reset(seed=reset)
        return statuses(env)

    assert run(0, 0) == run(0, 0)
    assert len({tuple(run(own, reset)) for own in (0, 1) for reset in (0, 1)}) == 4


def test_without_a_seed_the_next_episode_draws_on():
    env = made(error_rate=0.5)
    env.reset(seed=0)
    first = statuses(env)
    env.reset()
    assert statuses(env) != first


def test_the_generator_forks():
    env = made(error_rate=0.5, latency=1.0)
    env.reset(seed=0)
    statuses(env)
    twin, other = clone(env), clone(env, seed=5)
    with snapshot(env) as snap:
        wanted = statuses(env)
        assert statuses(twin) == wanted
        assert statuses(other) != wanted
        restore(env, snap)
        assert statuses(env) == wanted


@pytest.mark.parametrize("budget_outside", [True, False])
def test_a_budget_says_no_before_a_fault_can(budget_outside):
    def budget(env):
        return ToolBudget(env, {"note": 1})

    def faulty(env):
        return UnreliableTools(env, error_rate=1.0)

    env = budget(faulty(TownEnv())) if budget_outside else faulty(budget(TownEnv()))
    env.reset(seed=0)
    assert statuses(env, 3) == ["unavailable", "limit", "limit"]
    assert env.last()[1]["calls_left"] == {"note": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"error_rate": -0.1}, "got -0.1 and 0.0"),
        ({"error_rate": 0.6, "timeout_rate": 0.5}, "at most 1 together, got 0.6 and 0.5"),
        ({"latency": -1.0}, "got -1.0 and 0.5"),
        ({"latency": math.inf}, "got inf"),
        ({"spread": math.nan}, "and nan"),
        ({"sleep": "time:nap"}, "sleep='time:nap' cannot be imported"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        UnreliableTools(TownEnv(), **arguments)


def test_an_environment_without_tools_is_refused():
    with pytest.raises(ConfigError, match="Walk has no method withhold"):
        UnreliableTools(Walk())
