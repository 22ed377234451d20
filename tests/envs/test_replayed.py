"""What cannot be copied is replayed: forks are rebuilt when they are stepped, checked, and counted."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.wrappers import TimeLimit
from hub_toys import Clock, Dice, Failing, GlobalDice, Locked, OneTable
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs import ConfigError, ForkLevel, NotRepeatable, clone, fork_level, restore, snapshot
from arpo_envs.hubs.replayed import Replayed, replayed
from arpo_envs.testing import Law, check_forkable_env

ACTIONS = ["throw"] * 4 + ["stop"]


def begun(kind: type[gym.Env] = Dice, seed: int = 3, steps: int = 0) -> Replayed:
    env = replayed(kind)
    env.reset(seed=seed)
    for _ in range(steps):
        env.step("throw")
    return env


def test_it_keeps_all_laws() -> None:
    report = check_forkable_env(lambda: TimeLimit(replayed(Locked), 5), actions=[ACTIONS, ["throw"] * 6], seeds=(0,))
    assert set(report.skipped) == {Law.TIMEOUT, Law.SECRETS}  # which are about tools
    assert fork_level(replayed(Locked)) is ForkLevel.REPLAY


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["throw", "fork", "back", "reseed"]), max_size=9),
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(1, 6), max_size=2),
)
def test_whatever_is_forked_restored_or_reseeded_goes_on_as_what_was_never_rebuilt(
    moves: list[str], seed: int, thrown: list[int]
) -> None:
    """A deep copy of the bare game, which is right for this one, is what to compare with."""
    env, bare = replayed(Dice), Dice()
    assert env.reset(seed=seed, options={"throws": thrown}) == bare.reset(seed=seed, options={"throws": thrown})
    parked, kept = snapshot(env), copy.deepcopy(bare)
    for number, move in enumerate(moves):
        if move == "fork":
            env, bare = clone(env), copy.deepcopy(bare)
        elif move == "back":
            restore(env, parked)
            bare = copy.deepcopy(kept)
        elif move == "reseed":
            env = clone(env, seed=number)
            bare = copy.deepcopy(env.live)
        elif len(bare.throws) < 6:
            assert env.step("throw") == bare.step("throw")
    env.close()


def test_forks_are_rebuilt_when_they_are_stepped_and_steps_are_counted_apart() -> None:
    env = begun(steps=3)
    idle, twin = clone(env), clone(env)
    assert (env.executed_calls, env.replayed_calls) == (3, 0)
    assert (twin.executed_calls, twin.replayed_calls) == (0, 0)
    twin.step("throw")
    twin.step("throw")
    assert (twin.executed_calls, twin.replayed_calls) == (2, 3)
    assert idle._env is None
    assert idle.last() == env.last()


class Silent(Dice):
    """Names a tool for throws only."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action == "look":
            return self.shown(), 0.0, False, False, {}
        return super().step(action)


def test_only_tool_calls_are_counted_executed_or_replayed() -> None:
    env = begun(Silent, steps=1)
    env.step("look")
    env.step("throw")
    twin = clone(env)
    twin.step("look")
    twin.step("throw")
    assert (env.executed_calls, env.replayed_calls) == (2, 0)
    assert (twin.executed_calls, twin.replayed_calls) == (1, 2)


def test_counts_survive_a_restore() -> None:
    env = begun(steps=2)
    with snapshot(env) as parked:
        assert parked.replayed_calls == 0
        env.step("throw")
        restore(env, parked)
        env.step("throw")
        assert (env.executed_calls, env.replayed_calls) == (4, 2)


def test_a_snapshot_travels() -> None:
    env = begun(steps=2)
    with snapshot(env) as parked, pickle.loads(pickle.dumps(parked)) as arrived, arrived.spawn() as spawned:
        assert spawned.step("throw") == env.step("throw")


def test_without_a_seed_one_is_drawn() -> None:
    env = replayed(Dice)
    env.reset(seed=5)
    env.reset()
    env.step("throw")
    assert clone(env).step("throw") == env.step("throw")


@pytest.mark.parametrize(
    ("kind", "saw"),
    [
        pytest.param(Clock, r"when reset\(\) was run again with seed 3, observation is", id="a clock"),
        pytest.param(
            OneTable, r"when step 1 \('throw'\) was run again with seed 3, observation is .*; the first time", id="shared"
        ),
    ],
)
def test_what_does_not_repeat_is_refused_by_name(kind: type[gym.Env], saw: str) -> None:
    env = begun(kind, steps=2)
    twin = clone(env)
    with pytest.raises(NotRepeatable, match=f"{kind.__name__} does not repeat: {saw}"):
        twin.step("throw")
    assert twin._env is None


def test_a_global_generator_is_refused_once_a_fork_comes_between() -> None:
    env = begun(GlobalDice, steps=2)
    clone(env).step("throw")
    begun(GlobalDice, seed=4)
    env.step("throw")
    with pytest.raises(NotRepeatable, match=r"GlobalDice does not repeat: when step 3 \('throw'\)"):
        clone(env).step("throw")


def test_what_fails_is_made_again_and_nothing_stays_open() -> None:
    Failing.opened.clear()
    env = begun(Failing, steps=2)
    before = env.last()
    with pytest.raises(RuntimeError, match="rolled off"):
        env.step("fail")
    assert not Failing.opened
    assert env.last() == before
    assert env.step("throw")[:-1] == begun(Failing, steps=2).step("throw")[:-1]
    assert env.replayed_calls == 2
    twin = clone(env)
    twin.step("throw")
    assert len(Failing.opened) >= 2
    twin.close()
    env.close()


def test_what_is_closed_is_made_again_by_a_reset_alone() -> None:
    Failing.opened.clear()
    env = begun(Failing, steps=2)
    parked = snapshot(env)
    env.close()
    for closed in (env, clone(env)):
        with pytest.raises(gym.error.ResetNeeded, match="Failing was closed: call reset"):
            closed.render()
    assert not Failing.opened
    restore(env, parked)
    env.step("throw")
    env.close()
    env.reset(seed=3)
    env.close()
    parked.close()
    assert not Failing.opened


def test_misuse_is_told() -> None:
    with pytest.raises(ConfigError, match=r"make_env\(\) must return a Gymnasium environment, got str"):
        replayed(lambda: "dice")
    env = replayed(Dice)
    with pytest.raises(gym.error.ResetNeeded):
        env.step("throw")
    env.reset(seed=1)
    env.step("stop")
    with pytest.raises(gym.error.ResetNeeded):
        env.step("throw")
    with pytest.raises(gym.error.ResetNeeded):
        clone(env).step("throw")
