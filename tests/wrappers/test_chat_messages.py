"""`ChatMessages` shows the conversation, gives copies, and forks with its environment."""

import gymnasium as gym
from toys import TownEnv

from arpo_envs import clone, restore, snapshot
from arpo_envs.spaces import MAX_TEXT
from wrappers import ChatMessages, Transcript

ECHO = "<echo>hi</echo>"


def test_the_observation_is_the_conversation():
    env = ChatMessages(TownEnv(), observation_role="tool")
    messages, _ = env.reset(options={"task": "t0"})
    start = [
        {"role": "system", "content": env.unwrapped.instructions},
        {"role": "user", "content": "Where is Bordeaux?"},
    ]
    assert messages == tuple(start)
    messages, reward, terminated, truncated, _ = env.step(ECHO)
    assert list(messages) == [
        *start,
        {"role": "assistant", "content": ECHO},
        {"role": "tool", "content": "<result>You said hi</result>"},
    ]
    assert messages in env.observation_space
    assert (reward, terminated, truncated) == (0.0, False, False)
    messages, reward, terminated, _, _ = env.step("<answer>France</answer>")
    assert messages[-1] == {"role": "assistant", "content": "<answer>France</answer>"}
    assert (reward, terminated) == (1.0, True)


def test_it_says_what_a_transcript_says():
    env = ChatMessages(Transcript(TownEnv()))
    env.reset(seed=0)
    env.step(ECHO)
    messages, *_, info = env.step("<answer>x</answer>")
    assert list(messages) == info["messages"]


def test_what_is_given_is_a_copy():
    env = ChatMessages(TownEnv())
    messages, _ = env.reset(seed=0)
    messages[0]["content"] = "changed"
    assert "changed" not in str(env.step(ECHO)[0])
    assert "changed" not in str(env.last())


def test_a_reset_starts_anew():
    env = ChatMessages(TownEnv())
    env.reset(seed=0)
    env.step(ECHO)
    assert [message["role"] for message in env.reset(seed=1)[0]] == ["system", "user"]


def test_it_forks():
    env = ChatMessages(TownEnv())
    env.reset(seed=0)
    twin = clone(env)
    with snapshot(env) as snap:
        last = env.last()
        assert "left" in str(env.step("<echo>left</echo>")[0])
        assert "left" not in str(twin.step(ECHO)[0])
        assert restore(env, snap) == last
        assert env.step(ECHO)[0] == twin.last()[0]


def test_what_no_message_can_hold_is_cleaned():
    for text in ("a\ud800", "x" * (MAX_TEXT + 1)):
        env = ChatMessages(gym.make("ARPO/SearchMini-v0", disable_env_checker=True))
        env.reset(seed=0)
        messages, *_ = env.step(text)
        assert messages in env.observation_space
        assert messages[-2]["content"].startswith(text[0])
        env.close()
