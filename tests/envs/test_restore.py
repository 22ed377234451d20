"""What `restore` returns, what it puts back, and what it leaves alone."""

import pickle
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformObservation, TransformReward
from toys import Note, TownEnv, Towns, play

from arpo_envs.core import Score, ToolEnv
from arpo_envs.errors import NotForkable
from arpo_envs.forking import ForkLevel, snapshot
from arpo_envs.restoring import restore
from wrappers import Transcript

NOTE_A, NOTE_B = "<note>a</note>", "<note>b</note>"


def test_restore_needs_somebody_who_knows_the_last_observation():
    class Mute(gym.Env):
        fork_level = ForkLevel.EXACT

    with snapshot(Mute()) as snap, pytest.raises(NotForkable, match="Mute has no method `last"):
        restore(Mute(), snap)


def test_restore_returns_what_was_last_returned():
    env = TransformReward(TransformObservation(RecordEpisodeStatistics(TimeLimit(TownEnv(), 4)), str.upper, None), float)
    question, info = env.reset(seed=0)
    with snapshot(env) as snap:
        play(env, [NOTE_A])
        observation, restored = restore(env, snap)
    assert observation == question  # the recorder is below TransformObservation
    assert restored == info
    ours = Transcript(env)
    question, info = ours.reset(seed=0)
    with snapshot(ours) as snap:
        play(ours, [NOTE_A])
        assert restore(ours, snap) == (question, info)  # Transcript records outside of it


def test_restore_repeats_what_observation_wrappers_made_of_the_observation():
    """Two of them, innermost first; what they keep is not touched by asking once more."""

    class Signed(gym.ObservationWrapper):
        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.asked = [0]

        def observation(self, observation: str) -> str:
            self.asked[0] += 1
            return f"{observation} (signed)"

    env = Signed(TransformObservation(TimeLimit(TownEnv(), 3), str.upper, None))
    env.reset(seed=0)
    observation = play(env, [NOTE_A])[0][0]
    assert observation.endswith(" (signed)")
    with snapshot(env) as snap:
        play(env, [NOTE_B])
        for _ in range(2):
            assert restore(env, snap)[0] == observation
            assert env.asked == [2]


def test_restore_refuses_an_observation_wrapper_that_counts_on_its_steps():
    """Asked once more, a queue of observations would give another one."""

    class Late(gym.ObservationWrapper):
        def reset(self, **kwargs: Any) -> Any:
            self.queue = ["nothing yet"]
            return super().reset(**kwargs)

        def observation(self, observation: str) -> str:
            self.queue.append(observation)
            return self.queue.pop(0)

    env = Late(TownEnv())
    env.reset(seed=0)
    play(env, [NOTE_A])
    with snapshot(env) as snap:
        wanted = play(env, [NOTE_B])
        with pytest.raises(NotForkable, match=r"Late .*last\(\)"):
            restore(env, snap)
        assert play(snap.spawn(), [NOTE_B]) == wanted
    assert env.unwrapped.last()[1]["turn"] == 2, "nothing was restored"
    told = Transcript(Late(TownEnv()))
    told.reset(seed=0)
    observation = play(told, [NOTE_A])[0][0]
    with snapshot(told) as snap:
        assert restore(told, snap)[0] == observation


def test_restore_puts_back_the_state_and_leaves_the_configuration():
    def town(reward: float, timeout: float, guidance: str) -> ToolEnv:
        return ToolEnv(
            tasks=Towns(),
            tools=(Note(),),
            reward=lambda task, outcome: Score(reward, 0.0),
            tool_timeout=timeout,
            guidance=guidance,
        )

    one, other = town(1.0, 30.0, "Be quick."), town(7.0, 2.0, "Be thorough.")
    one.reset(seed=0)
    other.reset(seed=1)
    play(one, [NOTE_A])
    tools, instructions = other.tools, other.instructions
    with snapshot(one) as snap:
        assert restore(other, snap) == one.last()
        assert other.task == one.task
        assert (other.tool_timeout, other.tools, other.instructions) == (2.0, tools, instructions)
        assert play(other, ["<answer>x</answer>"])[0][1] == 7.0
        assert play(snap.spawn(), ["<answer>x</answer>"])[0][1] == 1.0


def test_a_snapshot_from_elsewhere_does_not_replace_what_is_shared():
    env = TownEnv()
    env.reset(seed=0)
    tools, tasks = env.tools, env.tasks
    with snapshot(env) as snap:
        restore(env, pickle.loads(pickle.dumps(snap)))
    assert env.tools is tools
    assert env.tasks is tasks
