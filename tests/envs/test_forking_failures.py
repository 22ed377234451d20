"""Copies that fail leave everything as it was: nothing half restored, nothing left behind."""

import copy
import threading
from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from toys import Note, NoteSession, TownEnv, play

from arpo_envs.errors import CloneError, NotForkable, ToolFault
from arpo_envs.forking import clone, clone_many, snapshot
from arpo_envs.restoring import restore
from arpo_envs.tools import Session

NOTE_A, NOTE_B = "<note>a</note>", "<note>b</note>"


class Flaky(NoteSession):
    """Fails to clone whenever it is told to, and counts the living."""

    fail: ClassVar[set[int]] = set()
    made: ClassVar[list["Flaky"]] = []

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made.append(self)

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [CloneError(f"child {i} was lost") if i in self.fail else super(Flaky, self).clone()[0] for i in range(n)]


class Lost(NoteSession):
    """Never clones."""

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [CloneError("lost")] * n


class FlakyNote(Note):
    session = Flaky


@pytest.fixture
def flaky():
    Flaky.made.clear()
    Flaky.fail.clear()
    env = TownEnv(note=FlakyNote())
    env.reset(seed=0)
    yield env
    Flaky.made.clear()
    Flaky.fail.clear()


def living() -> int:
    return sum(not session.closed for session in Flaky.made)


def test_clone_many_gives_failed_children_as_values(flaky):
    play(flaky, [NOTE_A])
    Flaky.fail.add(1)
    children = clone_many(flaky, [None, None, 7])
    assert [type(child).__name__ for child in children] == ["TownEnv", "CloneError", "TownEnv"]
    assert str(children[1]) == "child 1 was lost"
    assert children[1].__traceback__ is None
    same, _, other = children
    assert play(same, [NOTE_B]) == play(flaky, [NOTE_B]) != play(other, [NOTE_B])
    for child in (same, other, flaky):
        child.close()
    assert living() == 0


def test_siblings_of_a_failed_session_are_closed(flaky):
    """Two tools: the first one's clone is made when the second one's fails."""
    env = TownEnv(note=FlakyNote())
    env.reset(seed=0)
    env.sessions[0], env.sessions[1] = Flaky([], np.random.default_rng(0)), Lost([], np.random.default_rng(0))
    before = living()
    (child,) = clone_many(env, [None])
    assert isinstance(child, CloneError)
    with pytest.raises(CloneError, match="lost"):
        clone(env)
    assert living() == before


class Down(NoteSession):
    """Raises, against the contract, instead of giving failures as values."""

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        raise ToolFault("down")


def test_a_session_that_raises_leaves_no_clone_of_another_tool_behind(flaky):
    flaky.sessions[0], flaky.sessions[1] = flaky.sessions[1], Down([], np.random.default_rng(0))
    for way in (lambda env: clone_many(env, [1, 2, 3]), clone, snapshot, copy.deepcopy):
        made = len(Flaky.made)
        with pytest.raises(ToolFault, match="down"):
            way(flaky)
        assert len(Flaky.made) > made, "the first tool was cloned"
        assert living() == 1


def test_a_session_under_two_names_is_cloned_once_for_all_children(flaky):
    flaky.sessions[0] = flaky.sessions[1]
    children = clone_many(flaky, [None, None])
    assert all(child.sessions[0] is child.sessions[1] for child in children)
    assert living() == 3


def test_clone_many_asks_a_session_once(flaky, monkeypatch):
    asked = []
    original = Flaky.clone
    monkeypatch.setattr(Flaky, "clone", lambda self, n=1: asked.append(n) or original(self, n))
    clone_many(flaky, [None] * 4)
    assert asked == [4]
    assert clone_many(flaky, []) == []


def test_a_failed_clone_raises_and_leaves_nothing_behind(flaky):
    Flaky.fail.add(0)
    for way in (clone, snapshot, copy.deepcopy):
        with pytest.raises(CloneError, match="child 0 was lost"):
            way(flaky)
    assert living() == 1
    assert play(flaky, [NOTE_A])[0][4]["status"] == "ok"


def test_a_wrapper_that_fails_late_leaves_no_session_behind(flaky):
    env = TimeLimit(flaky, 3)
    env.guard = threading.Lock()  # copied after the environment inside
    for way in (clone, snapshot, lambda env: clone_many(env, [None, None])):
        with pytest.raises(NotForkable, match=r"TimeLimit\.guard"):
            way(env)
    assert living() == 1


def test_restore_is_all_or_nothing(flaky):
    play(flaky, [NOTE_A])
    with snapshot(flaky) as snap:
        play(flaky, [NOTE_B])
        before = vars(flaky).copy()
        Flaky.fail.add(0)
        with pytest.raises(CloneError):
            restore(flaky, snap)
        assert vars(flaky) == before
        assert not flaky.sessions[1].closed
        assert "3 notes" in play(flaky, [NOTE_A])[0][0]
        Flaky.fail.clear()
        restore(flaky, snap)
        assert "2 notes" in play(flaky, [NOTE_A])[0][0]


# --- parked sessions -----------------------------------------------------------------------------------------


class Thrifty(Flaky):
    """Can be parked, and counts who is."""

    def park(self) -> Session:
        if 0 in self.fail:
            raise CloneError("the garage is full")
        return Garaged(list(self.notes), self.copied_rng())


class Garaged(Flaky):
    def call(self, name: str, arguments: Any, *, timeout: float) -> Any:
        raise AssertionError("a parked session was called")

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [Thrifty(list(self.notes), self.copied_rng()) for _ in range(n)]


class ThriftyNote(Note):
    session = Thrifty


@pytest.fixture
def thrifty(flaky):
    env = TownEnv(note=ThriftyNote())
    env.reset(seed=0)
    play(env, [NOTE_A])
    yield env
    env.close()
    flaky.close()
    assert living() == 0


def test_a_snapshot_parks_sessions_that_can_be_parked(thrifty):
    with snapshot(thrifty) as snap:
        assert [type(session) for session in snap._usable().sessions.values()].count(Garaged) == 1
        wanted = play(clone(thrifty), [NOTE_B])
        assert play(snap.spawn(), [NOTE_B]) == wanted
        play(thrifty, [NOTE_A, NOTE_A])
        restore(thrifty, snap)
        assert play(thrifty, [NOTE_B]) == wanted
        assert [type(session) for session in thrifty.sessions.values()].count(Thrifty) == 1
    for session in Flaky.made:  # of the clones above
        session.close()


def test_what_cannot_be_parked_leaves_nothing_behind(thrifty):
    before = living()
    Flaky.fail.add(0)
    with pytest.raises(CloneError, match="the garage is full"):
        snapshot(thrifty)
    assert living() == before
    Flaky.fail.clear()
    env = TimeLimit(thrifty, 3)
    env.guard = threading.Lock()
    with pytest.raises(NotForkable, match=r"TimeLimit\.guard"):
        snapshot(env)
    assert living() == before
