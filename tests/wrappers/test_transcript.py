"""`Transcript` keeps the conversation, gives copies, and forks with its environment."""

import gymnasium as gym
import pytest
from gymnasium.wrappers import TimeLimit
from toys import TownEnv

from arpo_envs import clone, restore, snapshot
from wrappers import Transcript


@pytest.fixture
def env():
    env = Transcript(TownEnv())
    env.reset(seed=0)
    return env


def roles(env):
    return [message["role"] for message in env.messages]


def test_a_conversation(env):
    question = env.messages[-1]["content"]
    observation, *_ = env.step("<echo>hi</echo>")
    *_, info = env.step("<answer>France</answer>")
    assert env.messages == [
        {"role": "system", "content": env.unwrapped.instructions},
        {"role": "user", "content": question},
        {"role": "assistant", "content": "<echo>hi</echo>"},
        {"role": "user", "content": observation},
        {"role": "assistant", "content": "<answer>France</answer>"},
    ]
    assert info["messages"] == env.messages


def test_messages_are_in_info_only_at_the_end(env):
    assert "messages" not in env.step("<echo>hi</echo>")[4]
    short = TimeLimit(TownEnv(), 1)
    ended = Transcript(short)
    ended.reset(seed=0)
    *_, truncated, info = ended.step("<echo>hi</echo>")
    assert truncated
    assert info["messages"] == ended.messages


def test_reset_starts_anew(env):
    env.step("<echo>hi</echo>")
    env.reset(seed=1)
    assert roles(env) == ["system", "user"]


def test_what_is_given_is_a_copy(env):
    env.messages.clear()
    env.messages[0]["content"] = "changed"
    *_, info = env.step("<answer>France</answer>")
    info["messages"][0]["content"] = "changed"
    info["messages"].append("changed")
    assert roles(env) == ["system", "user", "assistant"]
    assert env.messages[0]["content"] == env.unwrapped.instructions
    assert "changed" not in str(env.last())


def test_it_forks(env):
    twin = clone(env)
    with snapshot(env) as snap:
        env.step("<echo>left</echo>")
        twin.step("<echo>right</echo>")
        assert "left" in str(env.messages)
        assert "left" not in str(twin.messages)
        assert "right" not in str(env.messages)
        assert restore(env, snap)[0] == env.messages[-1]["content"]
        assert roles(env) == ["system", "user"]


def test_the_role_is_free_and_in_the_spec():
    gym.register("Toy/Talk-v0", entry_point="toys:TownEnv")
    try:
        env = Transcript(gym.make("Toy/Talk-v0"), observation_role="tool")
        again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
        again.reset(seed=0)
        again.step("<echo>hi</echo>")
        assert roles(again) == ["system", "user", "assistant", "tool"]
    finally:
        del gym.registry["Toy/Talk-v0"]


def test_an_environment_without_instructions_has_no_system_message():
    class Plain(gym.Env):
        def reset(self, *, seed=None, options=None):
            return "hello", {}

    env = Transcript(Plain())
    env.reset()
    assert env.messages == [{"role": "user", "content": "hello"}]
