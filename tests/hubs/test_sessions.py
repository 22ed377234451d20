"""Sessions behind handles: what is closed, what is refused, and that nothing is left, whatever a client does."""

import threading
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from toys import Note, TownEnv

from arpo_envs.errors import ArpoError, CloneError, ConfigError
from arpo_envs.hubs.episode import Episode, begin, maker
from arpo_envs.hubs.limits import Limits, memory_taken
from arpo_envs.hubs.numbered import NumberedTasks
from arpo_envs.hubs.sessions import Sessions

FULL, UNKNOWN = "no room", "No session has that handle"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Counted(Episode):
    """An episode that counts those that live."""

    live = 0

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        Counted.live += 1

    def clone(self, seed: int | None = None) -> Episode:
        twin = Counted(super().clone(seed).env)
        twin.earned, twin._last = self.earned, self._last
        return twin

    def close(self) -> None:
        Counted.live -= 1
        super().close()


def make() -> Episode:
    return Counted(TownEnv())


@pytest.fixture
def sessions():
    Counted.live = 0
    made = Sessions(make, Limits(sessions=4, idle_seconds=10), Clock())
    yield made
    made.close_all()
    assert Counted.live == 0


STEP = st.sampled_from(["open", "fork", "two", "call", "close", "park", "copy", "wait", "long"])


@settings(max_examples=60, deadline=None)
@example([("open", 0), ("long", 0), ("close", 0)])
@given(st.lists(st.tuples(STEP, st.integers(0, 5)), max_size=25))
def test_whatever_a_client_does_limits_hold_and_nothing_is_left(steps):
    Counted.live = 0
    clock = Clock()
    sessions = Sessions(make, Limits(sessions=3, idle_seconds=10), clock)
    used: dict[str, float] = {}
    for what, number in steps:
        alive = [handle for handle in used if clock.now - used[handle] <= 10]
        handle = sorted(used)[number % len(used)] if used else "nobody's"
        room = len(alive) + {"open": 1, "fork": 1, "two": 2, "park": 1}.get(what, 0) <= 3
        try:
            if what == "open":
                used[sessions.open(seed=number)[0]] = clock.now
            elif what in ("fork", "two"):
                for copy in sessions.fork(handle, 1 + (what == "two"), seed=number):
                    used[copy] = clock.now
                used[handle] = clock.now
            elif what == "call":
                with sessions.using(handle) as episode:
                    assert episode.last.info["status"]
                used[handle] = clock.now
            elif what == "close":
                sessions.close(handle)
                del used[handle]
            elif what == "copy":
                sessions.copy(handle).close()
                used[handle] = clock.now
            elif what == "park":
                ours = begin(make, seed=number)
                try:
                    used[sessions.park(ours)] = clock.now
                finally:
                    ours.close()
            else:
                clock.now += 4 if what == "wait" else 11
        except ArpoError as error:
            refusal = str(error)
        else:
            refusal = ""
        if what not in ("wait", "long"):
            needed = handle in alive or what in ("open", "park")
            assert (FULL in refusal, UNKNOWN in refusal) == (not room, room and not needed)
        assert len(sessions) <= 3
    sessions.sweep()
    assert len(sessions) == Counted.live == len([handle for handle in used if clock.now - used[handle] <= 10])
    sessions.close_all()
    assert Counted.live == 0


def test_one_call_at_a_time(sessions):
    handle, _ = sessions.open(seed=1)
    with sessions.using(handle):
        with pytest.raises(ArpoError, match="busy with another call"), sessions.using(handle):
            pass
        closing = threading.Thread(target=sessions.close, args=(handle,))
        closing.start()  # waits for the call
        assert Counted.live == 1
    closing.join()
    assert Counted.live == 0


def test_a_copy_is_in_the_middle_of_the_same_episode(sessions):
    handle, question = sessions.open(seed=1)
    with sessions.using(handle) as episode:
        episode.call("note", {"text": "x"})
    (copy,) = sessions.fork(handle)
    for one in (handle, copy):
        with sessions.using(one) as episode:
            assert episode.call("note", {"text": "y"}).observation.startswith("<result>2 notes")
            assert episode.last.info["task"] == question.info["task"]


def test_of_a_fork_that_fails_nothing_is_left(sessions, monkeypatch):
    handle, _ = sessions.open(seed=1)
    clone, made = Counted.clone, []

    def fails_once(self: Counted, seed: int | None = None) -> Episode:
        if made:
            raise CloneError("not this time")
        made.append(clone(self, seed))
        return made[0]

    monkeypatch.setattr(Counted, "clone", fails_once)
    with pytest.raises(CloneError, match="not this time"):
        sessions.fork(handle, 2)
    assert len(sessions) == Counted.live == 1


def test_what_cannot_be_closed_is_logged_and_keeps_nothing_else_open(sessions, monkeypatch, caplog):
    close, clone = Counted.close, Counted.clone

    def stuck(self: Counted) -> None:
        close(self)
        raise OSError("stuck")

    def failures() -> int:
        said = sum("could not be closed" in record.message and "stuck" in record.exc_text for record in caplog.records)
        caplog.clear()
        return said

    monkeypatch.setattr(Counted, "close", stuck)
    for _ in range(3):
        sessions.open(seed=1)
    sessions._clock.now = 11
    handle, _ = sessions.open(seed=1)  # a stranger's call, which sweeps
    assert (len(sessions), Counted.live, failures()) == (1, 1, 3)

    def third_fails(self: Counted, seed: int | None = None) -> Episode:
        if seed == 2:
            raise CloneError("not this time")
        return clone(self, seed)

    monkeypatch.setattr(Counted, "clone", third_fails)
    with pytest.raises(CloneError, match="not this time"):
        sessions.fork(handle, 3, seed=0)
    with pytest.raises(StopIteration):  # what this toy says of an unknown task
        sessions.open(task="nowhere")
    assert (len(sessions), Counted.live, failures()) == (1, 1, 3)
    sessions.close(handle)
    assert (Counted.live, failures()) == (0, 1)
    for _ in range(3):
        sessions.open(seed=1)
    sessions.close_all()
    assert (Counted.live, failures()) == (0, 3)
    with pytest.raises(ArpoError, match="The server is closing"):
        sessions.open(seed=1)
    assert (Counted.live, failures()) == (0, 1)


def test_what_is_made_while_the_server_closes_is_closed(sessions, monkeypatch):
    def closes(self: Counted, **arguments: Any) -> Any:
        sessions.close_all()
        return Episode.reset(self, **arguments)

    sessions.open(seed=1)
    monkeypatch.setattr(Counted, "reset", closes)
    with pytest.raises(ArpoError, match="The server is closing"):
        sessions.open(seed=1)
    assert len(sessions) == Counted.live == 0


def test_an_action_must_be_in_the_environments_space():
    episode = Episode(gym.make("CartPole-v1"))
    with pytest.raises(ConfigError, match=r"An action is Discrete\(2\); this one is 5 characters"):
        episode.act("right")
    episode.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({"seed": seed}, "A seed is a whole number of at least 0") for seed in (-1, 1.5, True, "7", [], float("nan"))),
        ({"task": 5}, "A task is named by its id, a string of at most 1,000 characters, got 5"),
        ({"task": "x" * 10_000_000}, "got 10,000,000 characters"),
        ({"task": "nowhere"}, "has no entity 'nowhere'"),
    ],
)
def test_what_chooses_no_task_is_refused_in_words_and_the_next_reset_begins(given, said):
    episode = maker("ARPO/SearchMini-v0", {})()
    with pytest.raises(ConfigError, match=said):
        episode.reset(**given)
    assert episode.reset(seed=np.int64(7)).observation == episode.reset(seed=7).observation
    assert episode.act("<search>x</search>").info["status"] == "ok"
    episode.close()


def test_an_episode_whose_tools_cannot_be_called_is_refused_when_it_is_made(monkeypatch):
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    make = maker("ARPO/Search-v0", {"engine": "serper"})
    closed = []
    monkeypatch.setattr(Episode, "close", lambda episode: closed.append(episode))
    with pytest.raises(ConfigError, match="The search engine serper needs a key"):
        make()
    assert len(closed) == 1
    monkeypatch.setenv("SERPER_API_KEY", "s3cret-k3y")
    make()
    assert len(closed) == 1


def test_a_task_that_does_not_exist_leaves_no_session(sessions):
    with pytest.raises(StopIteration):  # of the toy's tasks
        sessions.open(task="nowhere")
    assert len(sessions) == Counted.live == 0


def test_limits_and_numbers_are_positive():
    with pytest.raises(ConfigError, match="must be positive"):
        Limits(sessions=0)
    with pytest.raises(ConfigError, match="copied at least once"):
        Sessions(make, Limits()).fork("x", 0)
    with pytest.raises(ArpoError, match="The server is full"):
        Sessions(make, Limits(memory_mb=1)).open()
    assert memory_taken("no such process") == 0


def test_a_full_server_first_closes_what_is_idle(sessions, monkeypatch):
    monkeypatch.setattr("arpo_envs.hubs.sessions.memory_taken", lambda: 5000 * len(sessions))
    sessions.open(seed=1)
    sessions.open(seed=1)
    with pytest.raises(ArpoError, match=r"10000 MiB of 8192\. Close sessions .* or wait: what is idle for 10 s"):
        sessions.require_memory()
    sessions._clock.now = 11
    sessions.require_memory()
    assert len(sessions) == 0


def test_a_full_server_copies_no_session_for_a_caller_either(sessions, monkeypatch):
    handle, _ = sessions.open(seed=1)
    episode = sessions.copy(handle)
    monkeypatch.setattr("arpo_envs.hubs.sessions.memory_taken", lambda: 9000)
    before = Counted.live
    with pytest.raises(ArpoError, match="The server is full"):
        sessions.copy(handle)
    assert Counted.live == before
    monkeypatch.setattr("arpo_envs.hubs.sessions.memory_taken", lambda: 1)
    sessions.copy(handle).close()
    episode.close()


def test_an_episode_that_was_not_answered_is_paid_as_such():
    episode = Episode(TownEnv(note=Note()))
    with pytest.raises(Exception, match="No episode has begun"):
        _ = episode.last
    assert episode.reset(task="t1").observation == "Where is Kyoto?"
    assert episode.score() == 0
    assert episode.call("answer", {"text": "Japan"}).reward == episode.score() == 1
    assert episode.numbers() == {"turn": 1, "tool_calls": 0, "success": 1}
    with pytest.raises(Exception, match="The episode is over"):
        episode.call("echo", {"text": "x"})
    assert episode.guidance == ""
    assert episode.stop_strings == ["</echo>", "</note>", "</answer>"]


def test_tasks_are_those_that_their_numbers_draw():
    tasks = NumberedTasks("ARPO/SearchMini-v0", {}, number=7)
    episode = tasks.make("test")
    assert tasks.get_task("test", 6)["question"] == episode.reset(seed=6).observation
    assert tasks.get_task_range("test", -2) == [tasks.get_task("test", 5), tasks.get_task("test", 6)]
    assert [task["index"] for task in tasks.list_tasks("train")] == [*range(tasks.num_tasks("train"))]
    for split, index, said in (
        ("test", 7, "there is no 7"),
        ("test", -1, "there is no -1"),
        ("tset", 0, "Did you mean 'test'"),
        ("test", "x", "got 'test' and 'x'"),
        ([], 0, "got \\[\\] and 0"),
    ):
        with pytest.raises(IndexError, match=said):
            tasks.get_task(split, index)
    episode.close()
