"""`TokenBudget` counts, warns, truncates, and forks with its environment."""

import threading

import gymnasium as gym
import pytest
from toys import TownEnv

from arpo_envs import ConfigError, clone, restore, snapshot
from wrappers import TokenBudget


def words(text: str) -> int:
    return len(text.split())


def made(limit: int, reserve: int = 0, count=words) -> TokenBudget:
    env = TokenBudget(TownEnv(), count, limit, reserve)
    env.reset(options={"task": "t0"})  # "Where is Bordeaux?", three words
    return env


def test_counts_both_sides():
    env = made(100)
    assert env.tokens_left == 97
    observation, *_, info = env.step("<echo>three more words</echo>")
    assert observation == "<result>You said three more words</result>"
    assert info["tokens_left"] == env.tokens_left == 97 - 3 - 5


def test_tells_the_model_in_time():
    env = made(14, reserve=10)
    observation, *_ = env.step("<echo>hi</echo>")  # 14 - 3 - 1 - 3 = 7 left, fewer than 10
    assert observation == "<result>You said hi</result>\nOnly 7 tokens are left: answer now."
    assert env.tokens_left == 0  # the notice has 7 words, and is paid for


def test_a_question_may_already_need_the_notice():
    env = TokenBudget(TownEnv(), words, limit=20, reserve=18)
    question, info = env.reset(options={"task": "t0"})
    assert question.endswith("Only 17 tokens are left: answer now.")
    assert info["tokens_left"] == 10


def test_truncates_when_nothing_is_left():
    env = made(8)
    *_, terminated, truncated, info = env.step("<echo>one two</echo>")  # 3 + 2 + 4 > 8
    assert (terminated, truncated) == (False, True)
    assert info["tokens_left"] == 0


def test_one_token_more_goes_on():
    assert made(9).step("<echo>one two</echo>")[3] is True  # 9 of 9 used: no token for an answer
    assert made(10).step("<echo>one two</echo>")[3] is False


def test_an_answer_that_ends_the_episode_is_not_truncated_as_well():
    env = made(4)
    observation, _, terminated, truncated, _ = env.step("<answer>France and more words</answer>")
    assert (observation, terminated, truncated) == ("", True, False)


def test_a_longer_conversation_is_truncated_at_the_budget():
    env = made(20)
    lengths = []
    for _ in range(8):
        lengths.append(env.tokens_left)
        if env.step("<echo>hi</echo>")[3]:
            break
    assert lengths == [17, 13, 9, 5, 1]


def test_reset_refills():
    env = made(8)
    env.step("<echo>one two</echo>")
    env.reset(options={"task": "t0"})
    assert env.tokens_left == 5


def test_it_forks():
    env = made(100)
    env.step("<echo>hi</echo>")
    twin = clone(env)
    with snapshot(env) as snap:
        twin.step("<echo>a b c d</echo>")
        assert env.tokens_left == 93
        last = env.last()
        env.step("<echo>hi</echo>")
        assert restore(env, snap) == last
        assert env.tokens_left == 93


class Tokenizer:
    """Stands for one that cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def count(self, text: str) -> int:
        return len(text)


def test_the_tokenizer_is_shared_not_copied():
    tokenizer = Tokenizer()
    env = made(1000, count=tokenizer.count)
    twin = clone(env)
    assert twin._count_tokens.__self__ is tokenizer
    with snapshot(env) as snap:
        restore(env, snap)
    assert env._count_tokens.__self__ is tokenizer
    assert twin.step("<echo>hi</echo>") == env.step("<echo>hi</echo>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit must be at least 1 token, got 0"),
        ({"limit": 5, "reserve": 5}, r"reserve must lie in 0..4 .*got 5"),
        ({"limit": 5, "reserve": -1}, "got -1"),
        ({"limit": 5, "count_tokens": "nowhere:count"}, "'nowhere:count' cannot be imported"),
        ({"limit": 5, "count_tokens": "builtins:nothing"}, "package.module:function"),
        ({"limit": 5, "count_tokens": "len"}, "package.module:function"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        TokenBudget(TownEnv(), **({"count_tokens": words} | arguments))


def test_an_import_path_keeps_the_spec_serialisable():
    gym.register("Toy/Budget-v0", entry_point="toys:TownEnv")
    try:
        env = TokenBudget(gym.make("Toy/Budget-v0"), "builtins:len", limit=500, reserve=100)
        again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        assert again.reset(seed=3) == env.reset(seed=3)
        assert again.step("<echo>hi</echo>") == env.step("<echo>hi</echo>")
        env = TokenBudget(gym.make("Toy/Budget-v0"), len, limit=500)
        with pytest.raises((TypeError, ValueError), match=r"serializable|callable"):
            env.spec.to_json()
    finally:
        del gym.registry["Toy/Budget-v0"]
