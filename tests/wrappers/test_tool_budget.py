"""`ToolBudget` counts the calls of each tool, refuses those that are too many, and forks with its environment."""

import pytest
from toys import TownEnv, Walk

from arpo_envs import ConfigError, SnapshotMismatch, clone, restore, snapshot
from wrappers import ToolBudget

ECHO, NOTE = "<echo>hi</echo>", "<note>hi</note>"


def made(limits, **kwargs) -> ToolBudget:
    env = ToolBudget(TownEnv(**kwargs), limits)
    env.reset(options={"task": "t0"}, seed=0)
    return env


def test_it_counts_each_tool_by_itself():
    env = ToolBudget(TownEnv(), {"echo": 2, "note": 1})
    question, info = env.reset(options={"task": "t0"})
    assert question == "Where is Bordeaux?\nCalls left: echo 2, note 1."
    assert info["calls_left"] == {"echo": 2, "note": 1}
    observation, *_, info = env.step(ECHO)
    assert observation == "<result>You said hi</result>\nCalls left: echo 1, note 1."
    assert info["calls_left"] == {"echo": 1, "note": 1}
    assert env.step("no call at all")[4]["calls_left"] == {"echo": 1, "note": 1}


def test_a_call_too_many_is_refused_but_takes_a_turn():
    env = made({"note": 1})
    assert "1 notes" in env.step(NOTE)[0]
    observation, _, _, _, info = env.step(NOTE)
    assert observation == "<result>No calls of note are left.</result>\nCalls left: note 0."
    assert (info["status"], info["tool"], info["turn"], info["tool_calls"]) == ("limit", "", 2, 1)
    assert env.unwrapped.sessions[1].notes == ["hi"]
    assert "You said" in env.step(ECHO)[0], "a tool without a limit is free"


def test_a_budget_of_nothing_refuses_the_first_call():
    assert made(0).step(ECHO)[4]["status"] == "limit"


def test_a_refused_tool_was_not_used():
    env = made({"echo": 0})
    env.step(ECHO)
    assert env.unwrapped._tools_used == frozenset()


def test_one_number_holds_for_each_tool():
    assert made(3).last()[1]["calls_left"] == {"echo": 3, "note": 3}


def test_two_budgets_both_hold():
    env = ToolBudget(ToolBudget(TownEnv(), {"echo": 1}), {"note": 1, "echo": 2})
    env.reset(seed=0)
    statuses = [env.step(action)[4]["status"] for action in (ECHO, ECHO, NOTE, NOTE)]
    assert statuses == ["ok", "limit", "ok", "limit"]


def test_what_is_returned_belongs_to_the_user_and_a_reset_refills():
    env = made({"echo": 2})
    env.step(ECHO)[4]["calls_left"]["echo"] = 99
    assert env.last()[1]["calls_left"] == {"echo": 1}
    assert env.step(ECHO)[4]["calls_left"] == {"echo": 0}
    assert env.reset()[1]["calls_left"] == {"echo": 2}
    assert env.step(ECHO)[4]["status"] == "ok"


def test_it_forks():
    env = made({"echo": 2})
    env.step(ECHO)
    twin = clone(env)
    with snapshot(env) as snap:
        last = env.last()
        twin.step(ECHO)
        assert twin.step(ECHO)[4]["status"] == "limit"
        assert env.step(ECHO)[4]["status"] == "ok"
        assert restore(env, snap) == last
        assert env.step(ECHO)[4]["status"] == "ok"


def test_a_snapshot_of_another_budget_is_refused():
    with snapshot(made({"echo": 2})) as snap:
        restore(made({"echo": 2}), snap)
        with pytest.raises(SnapshotMismatch, match="Foreign snapshot"):
            restore(made({"echo": 3}), snap)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"dig": 1}, "no tool 'dig'; the environment has: echo, note"),
        ({"echo": -1}, "got -1 for echo"),
        (-2, "got -2 for echo"),
    ],
)
def test_wrong_limits_are_refused(limits, message):
    with pytest.raises(ConfigError, match=message):
        ToolBudget(TownEnv(), limits)


def test_an_environment_without_tools_is_refused():
    with pytest.raises(ConfigError, match=r"Walk has no method withhold\(tool, result\)"):
        ToolBudget(Walk(), 1)
