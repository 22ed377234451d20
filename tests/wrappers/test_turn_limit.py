"""`TurnLimit` tells the truth about what is left, truncates, and forks with its environment."""

import gymnasium as gym
import pytest
from gymnasium.wrappers import TimeLimit
from toys import TownEnv, Walk

from arpo_envs import ConfigError, clone, restore, snapshot
from wrappers import TurnLimit

ECHO = "<echo>hi</echo>"


def said(env: gym.Env) -> str:
    return env.step(ECHO)[0].splitlines()[-1]


def test_it_counts_down_in_words_and_in_info():
    env = TurnLimit(TownEnv(), 3)
    question, info = env.reset(seed=0)
    assert question.endswith("?\n3 turns are left.")
    assert info["turns_left"] == 3
    assert env.step(ECHO)[0] == "<result>You said hi</result>\n2 turns are left."
    assert said(env) == "1 turn is left: answer now."
    observation, reward, terminated, truncated, info = env.step(ECHO)
    assert observation.splitlines()[-1] == "No turns are left."
    assert (reward, terminated, truncated, info["turns_left"]) == (0.0, False, True, 0)


def test_an_answer_ends_the_episode_without_a_notice():
    env = TurnLimit(TownEnv(), 1)
    env.reset(options={"task": "t0"})
    assert env.step("<answer>France</answer>")[:4] == ("", 1.0, True, False)


def test_running_out_earns_what_the_environment_pays_then():
    env = TurnLimit(gym.make("ARPO/Search-v0", cities_per_country=2), 2)
    env.reset(seed=0)
    assert env.step("<search>a</search>")[1] == 0.0
    assert env.step("<search>a</search>")[1:4] == (-1.0, False, True)


@pytest.mark.parametrize(
    ("make", "turns"),
    [
        (lambda: TurnLimit(TownEnv(max_turns=4)), 4),
        (lambda: TurnLimit(TownEnv(max_turns=4), 9), 4),
        (lambda: TurnLimit(TownEnv(max_turns=4), 2), 2),
        (lambda: TurnLimit(TimeLimit(TownEnv(), 3), 5), 3),
        (lambda: TurnLimit(TurnLimit(TownEnv(), 3), 5), 3),
    ],
)
def test_the_lowest_limit_counts(make, turns):
    env = make()
    assert env.max_turns == turns
    env.reset(seed=0)
    ends = [any(env.step(ECHO)[2:4]) for _ in range(turns)]
    assert ends == [False] * (turns - 1) + [True]


def test_it_forks():
    env = TurnLimit(TownEnv(), 4)
    env.reset(seed=0)
    env.step(ECHO)
    twin = clone(env)
    with snapshot(env) as snap:
        last = env.last()
        assert [said(twin), said(twin), said(env)] == ["2 turns are left.", "1 turn is left: answer now.", "2 turns are left."]
        assert restore(env, snap) == last
        assert said(env) == "2 turns are left."


def test_a_limit_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="at least 1 turn, got 0"):
        TurnLimit(TownEnv(), 0)
    with pytest.raises(ConfigError, match="no limit of its own"):
        TurnLimit(Walk())
