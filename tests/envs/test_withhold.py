"""`ToolEnv.withhold`: the next call of a tool returns what it is given, and runs nothing."""

from toys import TownEnv

from arpo_envs import ToolResult, clone

NOTE = "<note>hi</note>"


def made() -> TownEnv:
    env = TownEnv()
    env.reset(seed=0)
    return env


def test_it_holds_for_one_step_and_one_tool():
    env = made()
    env.withhold("note", ToolResult("<result>Later.", "unavailable"))
    observation, *_, info = env.step(NOTE)
    assert observation == "<result>[result]Later.</result>"
    assert (info["tool"], info["status"], info["tool_calls"]) == ("note", "unavailable", 1)
    assert "1 notes" in env.step(NOTE)[0]
    env.withhold("note", ToolResult("Later."))
    assert "You said hi" in env.step("<echo>hi</echo>")[0]
    assert "2 notes" in env.step(NOTE)[0], "it was for the step before"


def test_what_did_not_run_was_not_used():
    env = made()
    env.withhold("note", ToolResult("Made up."))
    assert env.step(NOTE)[4]["status"] == "ok"
    assert env._tools_used == frozenset()


def test_a_refusal_is_not_counted_and_wins():
    env = made()
    env.withhold("note", ToolResult("First.", "unavailable"))
    env.withhold("note", ToolResult("Second.", "unavailable"))
    assert "First." in env.step(NOTE)[0]
    env.withhold("note", ToolResult("First.", "unavailable"))
    env.withhold("note", ToolResult("No.", "limit"))
    env.withhold("note", ToolResult("Third.", "unavailable"))
    observation, *_, info = env.step(NOTE)
    assert "No." in observation
    assert (info["tool"], info["status"], info["tool_calls"]) == ("", "limit", 1)


def test_it_travels_with_a_clone_and_ends_with_the_episode():
    env = made()
    env.withhold("note", ToolResult("Later."))
    twin = clone(env)
    assert "Later." in twin.step(NOTE)[0]
    env.reset(seed=0)
    assert "1 notes" in env.step(NOTE)[0]
