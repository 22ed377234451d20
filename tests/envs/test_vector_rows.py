"""Rows go on by themselves: some are stepped, a slow one delays no other, a failing one is named, and closing frees all."""

import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from test_laws import IDS, SMALL, made
from toys import Note, NoteSession, TownEnv, Walk
from vector_toys import ANSWER, MODES, NOTE_A, NOTE_B, Gate, of_row, shown, tasks, towns

from arpo_envs.errors import ConfigError, RowError
from arpo_envs.vector import ForkableVectorEnv

WAIT, BREAK = "<note>wait</note>", "<note>break</note>"


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()


# --- some rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=[mode.value for mode in MODES])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_stepped_by_themselves_go_as_if_alone(mode, data):
    """In whatever groups and order: each row sees what it would see as the only row."""
    envs, alone = towns(3, mode), [towns(1, mode) for _ in range(3)]
    envs.reset(seed=4)
    for row, env in enumerate(alone):
        env.reset(seed=4 + row)
    for _ in range(data.draw(st.integers(1, 8))):
        rows = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
        if mode is AutoresetMode.DISABLED and (over := [row for row in rows if envs._rows[row].ended]):
            envs.reset_subset(over, seed=9)
            for row in over:
                alone[row].reset(seed=9 + row)
        actions = data.draw(st.lists(st.sampled_from([NOTE_A, ANSWER, "junk"]), min_size=len(rows), max_size=len(rows)))
        observations, rewards, ended, cut, infos = envs.step_subset(rows, actions)
        for place, (row, action) in enumerate(zip(rows, actions, strict=True)):
            one = alone[row].step([action])
            assert [observations[place], rewards[place], ended[place], cut[place]] == [values[0] for values in one[:4]]
            assert of_row(infos, place) == of_row(one[4], 0)
    for env in (envs, *alone):
        env.close()


@pytest.mark.parametrize("name", IDS)
def test_every_id_steps_and_resets_some_rows(name):
    made(name).close()
    envs = gym.make_vec(name, num_envs=3, **SMALL.get(name, {}))
    questions, _ = envs.reset(seed=[1, 2, 3])
    observations, _, ended, _, infos = envs.step_subset([2, 0], ["junk", "<answer>nothing</answer>"])
    assert observations[0] in envs.single_observation_space
    assert ended.tolist() == [False, True]
    assert infos["status"].tolist() == ["mistake", "answered"]
    again, infos = envs.reset_subset([2, 1], seed=1)  # row i gets seed + i
    assert again == (questions[2], questions[1])
    assert infos["turn"].tolist() == [0, 0]
    envs.close()


def test_options_may_differ_between_rows():
    envs = towns(3)
    questions, _ = envs.reset_subset([2, 0], options=[{"task": "t1"}, {"task": "t2"}])
    assert questions == ("Where is Kyoto?", "Where is Quito?")
    envs.reset_subset([1], options={"task": "t0"})
    assert tasks(envs) == ["t2", "t0", "t1"]
    with pytest.raises(ConfigError, match="Expected 2 options, one per row, got 1"):
        envs.reset_subset([0, 1], options=[None])
    envs.close()


def test_rows_of_arrays_come_in_arrays():
    envs = ForkableVectorEnv([Walk] * 3)
    envs.reset(seed=0)
    observations, *_, infos = envs.step_subset([1, 2], np.array([0, 2]))
    assert (observations.shape, observations.dtype) == ((2, 1), np.int64)
    assert infos["nested"]["ends"].shape == (2, 2)
    observations[:] = 77
    assert 77 not in envs.reset(options={"reset_mask": np.array([True, False, False])})[0]
    envs.close()


def test_observations_share_nothing_with_the_rows():
    class Keeps(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Sequence(gym.spaces.Box(-99, 99, (2,)))
            self.kept = np.zeros(2, np.float32)

        def observed(self) -> Any:
            return (self.kept,), {}

    envs = ForkableVectorEnv([Keeps] * 2)
    observations, _ = envs.reset(seed=0)
    observations[1][0][:] = 7
    assert [env.kept.tolist() for env in envs.envs] == [[0, 0], [0, 0]]
    envs.close()


@pytest.mark.parametrize("rows", [[], [0, 0], [2], [-1], [True, False], np.array([True, False])])
def test_wrong_rows_are_refused(rows):
    envs = towns(2)
    envs.reset(seed=0)
    with pytest.raises(ConfigError, match=r"Rows are given by number|Expected distinct rows in 0\.\.1"):
        envs.step_subset(rows, [NOTE_A] * len(rows))
    envs.close()


def test_actions_are_counted_before_any_row_is_stepped():
    envs = towns(2)
    envs.reset(seed=0)
    for actions in ([NOTE_A], [NOTE_A] * 3):
        with pytest.raises(ConfigError, match="Expected 2 actions, one per row"):
            envs.step(actions)
        with pytest.raises(ConfigError, match="Expected 2 actions, one per row"):
            envs.send([0, 1], actions)
    with pytest.raises(TypeError, match="single string"):
        envs.step("ab")
    *_, infos = envs.step([NOTE_A, NOTE_A])
    assert infos["turn"].tolist() == [1, 1]
    envs.close()


# --- a slow row ---------------------------------------------------------------------------------------


def test_a_slow_row_delays_no_other(gate):
    envs = towns(3, note=gate)
    envs.reset(seed=0)
    envs.send([0], [WAIT])
    assert gate.waiting.acquire(timeout=30)
    envs.step_subset([1, 2], [NOTE_A, NOTE_A])  # returns while row 0 still waits
    envs.send([2, 1], [NOTE_B, ANSWER])
    rows, (_, _, ended, _, infos) = envs.recv(at_least=2, timeout=30)
    assert (rows.tolist(), ended.tolist()) == ([1, 2], [True, False])
    assert infos["turn"].tolist() == [2, 2]
    with pytest.raises(TimeoutError, match="0 of at least 1 rows returned within 0 s"):
        envs.recv(timeout=0)
    gate.opened.set()
    rows, (observations, *_) = envs.recv(timeout=30)
    assert rows.tolist() == [0]
    assert observations[0].startswith("<result>0 notes")
    *_, infos = envs.step_subset([0, 2], [NOTE_A, NOTE_A])  # what was received may go on
    assert infos["turn"].tolist() == [2, 3]
    envs.close()


def test_rows_wait_side_by_side(gate):
    envs = towns(4, note=gate)
    envs.reset(seed=0)
    envs.send(range(4), [WAIT] * 4)
    assert all(gate.waiting.acquire(timeout=30) for _ in range(4))  # all are in their tools at the same time
    gate.opened.set()
    rows, _ = envs.recv(at_least=4, timeout=30)
    assert rows.tolist() == [0, 1, 2, 3]
    envs.close()


def test_what_came_too_late_is_not_lost(gate):
    envs = towns(2, note=gate)
    envs.reset(seed=0)
    envs.send([0, 1], [WAIT, NOTE_A])
    with pytest.raises(TimeoutError, match="of at least 2"):
        envs.recv(at_least=2, timeout=0.05)
    assert envs.recv(timeout=30)[0].tolist() == [1]
    gate.opened.set()
    assert envs.recv(timeout=30)[0].tolist() == [0]
    envs.close()


def test_several_threads_may_step_different_rows():
    envs, alone = towns(4), towns(4)
    for both in (envs, alone):
        both.reset(seed=1)

    def steps(row: int) -> list[Any]:
        return [shown(envs.step_subset([row], [f"<note>{turn}</note>"])) for turn in range(5)]

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(steps, range(4)))
    assert seen == [[shown(alone.step_subset([row], [f"<note>{turn}</note>"])) for turn in range(5)] for row in range(4)]
    envs.close()
    alone.close()


def test_a_row_at_work_is_left_alone(gate):
    envs = towns(3, note=gate)
    envs.reset(seed=0)
    envs.send([1], [WAIT])
    for use in (
        lambda: envs.step_subset([0, 1], [NOTE_A, NOTE_A]),
        lambda: envs.send([1], [NOTE_A]),
        lambda: envs.reset(seed=0),
        lambda: envs.reset_subset([1]),
        lambda: envs.fork(1, [0]),
        lambda: envs.fork(0, [1]),
        lambda: envs.call("anchor"),
        lambda: envs.set_attr("max_turns", 3),
        envs.render,
    ):
        with pytest.raises(gym.error.AlreadyPendingCallError, match=r"of rows \[1\], which are still at work"):
            use()
    *_, infos = envs.step_subset([0], [NOTE_A])
    assert infos["turn"].tolist() == [1]
    gate.opened.set()
    envs.recv(timeout=30)
    envs.close()


def test_receiving_needs_sending():
    envs = towns(2)
    envs.reset(seed=0)
    with pytest.raises(gym.error.NoAsyncCallError, match="call send"):
        envs.recv()
    envs.send([0], [NOTE_A])
    for at_least in (0, 2):
        with pytest.raises(ConfigError, match=r"at_least must lie in 1\.\.1"):
            envs.recv(at_least)
    assert envs.recv()[0].tolist() == [0]
    envs.close()


# --- rows that cannot go on, and rows that fail -------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=[mode.value for mode in MODES])
def test_no_row_is_stepped_before_its_first_reset(mode):
    envs = towns(2, mode)
    with pytest.raises(gym.error.ResetNeeded, match=r"rows \[0, 1\] are over, or never began"):
        envs.step([NOTE_A, NOTE_A])
    with pytest.raises(gym.error.ResetNeeded, match=r"Rows \[0\] were never reset"):
        envs.reset(options={"reset_mask": np.array([False, True])})
    envs.close()


def test_an_ended_row_is_named_and_no_row_is_stepped():
    envs = towns(3)
    envs.reset(seed=0)
    envs.step([NOTE_A, ANSWER, NOTE_A])
    for step in (lambda: envs.step([NOTE_A] * 3), lambda: envs.send([1, 2], [NOTE_A] * 2)):
        with pytest.raises(gym.error.ResetNeeded, match=r"rows \[1\] are over"):
            step()
    *_, infos = envs.step_subset([0, 2], [NOTE_A, NOTE_A])
    assert infos["turn"].tolist() == [2, 2]
    envs.close()


def test_a_failure_carries_its_row_and_what_the_others_returned(gate):
    envs = towns(4, note=gate)
    envs.reset(seed=0)
    with pytest.raises(RowError, match=r"Row 1 \(and row 3\) failed with OSError: the index is broken") as caught:
        envs.step([NOTE_A, BREAK, ANSWER, BREAK])
    error = caught.value
    assert (error.row, sorted(error.errors), sorted(error.steps)) == (1, [1, 3], [0, 2])
    assert error.__cause__ is error.errors[1]
    assert error.steps[2].terminated
    assert error.steps[0].info["turn"] == 1
    *_, infos = envs.step_subset([0], [NOTE_A])
    assert infos["turn"].tolist() == [2]
    envs.reset_subset([1, 2, 3], seed=0)
    envs.step([NOTE_B] * 4)
    envs.send([0, 2], [BREAK, NOTE_A])
    with pytest.raises(RowError, match="Row 0 failed with OSError") as caught:
        envs.recv(at_least=2)
    assert [*caught.value.steps] == [2]
    envs.close()


def test_a_tool_that_ends_the_program_ends_only_its_row():
    class Exits(NoteSession):
        def call(self, name: str, arguments: Any, *, timeout: float) -> Any:
            sys.exit(3)

    note = Note()
    note.session = Exits  # type: ignore[misc]
    envs = towns(1, note=note)
    envs.reset(seed=0)
    with pytest.raises(RowError, match="SystemExit"):
        envs.step([NOTE_A])
    envs.close()


# --- closing ------------------------------------------------------------------------------------------


def test_closing_frees_every_session_and_ends_the_threads(gate):
    envs = towns(3, AutoresetMode.SAME_STEP, note=gate)
    before = {*threading.enumerate()}
    envs.reset(seed=0)
    envs.step([NOTE_A, ANSWER, NOTE_A])
    threads = {*threading.enumerate()} - before
    assert (len(threads), gate.live) == (3, 3)
    envs.close()
    envs.close()
    assert envs.closed
    assert gate.live == 0
    assert not any(thread.is_alive() for thread in threads)
    for use in (lambda: envs.step([NOTE_A] * 3), lambda: envs.reset(seed=0), lambda: envs.fork(0, [1])):
        with pytest.raises(gym.error.ClosedEnvironmentError, match="after close"):
            use()


def test_closing_stops_rows_at_work(gate):
    gate.opens_when_closed = True
    envs = towns(2, AutoresetMode.SAME_STEP, note=gate, max_turns=2)
    envs.reset(seed=0)
    envs.step([NOTE_A, NOTE_A])
    envs.send([0, 1], [WAIT, WAIT])  # their last turns: both begin a new episode after they were closed
    assert all(gate.waiting.acquire(timeout=30) for _ in range(2))
    envs.close()
    assert gate.live == 0


def test_a_row_that_cannot_be_closed_is_named_and_the_others_are_closed(gate):
    gate.refuses_to_close = True
    envs = towns(3, note=gate)
    envs.reset(seed=0)
    with pytest.raises(RowError, match=r"Row 0 \(and row 1, 2\) failed with OSError: it does not close"):
        envs.close()
    assert gate.live == 0


def test_nothing_keeps_what_is_dropped_alive():
    envs = towns(2)
    envs.reset(seed=0)
    envs.step([NOTE_A, NOTE_A])
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("arpo-row-")]
    gone = weakref.ref(envs.envs[0])
    del envs
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_one_that_is_not_made_closes_those_that_were(gate):
    def fails() -> gym.Env:
        raise ConfigError("no such world")

    env = TownEnv(note=gate)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="no such world"):
        ForkableVectorEnv([lambda: env, fails])
    assert gate.live == 0
