"""`arpo play`, at a terminal that is written to beforehand, and the game behind it."""

import io
import json
import math
import re
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from rollout_toys import CountEnv, CountTool
from test_cli import Repeat, said

from algorithms.cli import main
from algorithms.cli.game import Game
from algorithms.tree import Status
from arpo_envs import ConfigError, ForkLevel
from arpo_envs.tools import ToolSpec

pytestmark = pytest.mark.usefixtures("wide_terminal")


def play(monkeypatch, capsys, *lines: str, words: tuple[str, ...] = ()) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    default = ("ARPO/SearchMini-v0", "--args", "split=test", "--task", "city-2886242/country/capital")
    assert main(["play", *(words or default)]) == 0
    return said(capsys)


def test_play_to_the_end(monkeypatch, capsys):
    text = play(monkeypatch, capsys, "search Köln", "<think>so</think><search>Germany</search>", "answer Berlin", "")
    assert "What is the capital of the country of Köln?" in text
    assert "Köln: city in Germany" in text
    assert "<search>Köln</search>" in text
    assert "Germany: country in Europe" in text
    assert "answered · reward 1" in text
    assert "Answer: Berlin" in text


def test_play_forks_switches_and_goes_back(monkeypatch, capsys):
    lines = [
        "search Köln",
        "fork",
        "answer Rome",
        "branches",
        "switch 1",
        "answer Berlin",
        "undo",
        "search Germany",
        "branches",
    ]
    text = play(monkeypatch, capsys, *lines)
    assert "Branch 2 is a clone of branch 1 after action 1" in text
    assert "answered · reward 0" in text
    assert "Taken back: <answer>Berlin</answer>" in text
    assert text.index("answered · reward 1") < text.index("Taken back")
    first, second = [line for line in text.splitlines() if "branch 1 after action 1  " in line]
    assert re.sub(" +", " ", first).strip() == "▶ 2 branch 1 after action 1 1 + 1 answered, 0 <answer>Rome</answer>"
    assert re.sub(" +", " ", second).strip() == "2 branch 1 after action 1 1 + 1 answered, 0 <answer>Rome</answer>"
    assert "▶  1  the question             2        running      <search>Germany</search>" in text


def test_play_tells_what_went_wrong_and_goes_on(monkeypatch, capsys):
    lines = ["serach x", "xyz", "undo", "switch 7", "search", "answer Rome", "search Köln", "undo", "/help", "question", "quit"]
    text = play(monkeypatch, capsys, *lines)
    assert "'serach' is neither a tool nor a command: did you mean 'search'?" in text
    assert "type help to see" in text
    assert "There is nothing to undo" in text
    assert "Unknown branch '7'. Known: 1." in text
    assert "The call is empty: write" in text
    assert "The episode is over in this branch" in text
    assert "You left before the end" in text
    assert "The answer was: Berlin" in text
    assert text.count("What is the capital of the country of Köln?") == 2


def test_play_offers_an_answer_only_where_there_is_such_an_action(monkeypatch, capsys):
    monkeypatch.setitem(gym.registry, "Repeat-v0", gym.envs.registration.EnvSpec("Repeat-v0", entry_point=Repeat))
    text = play(monkeypatch, capsys, "answer x", "", words=("Repeat-v0",))
    assert "Answers the question and ends the episode." not in text
    assert "You write the action itself." in text
    assert "you said: answer x" in text, "the line is the action, as it is"
    assert "Answers the question and ends the episode." in play(monkeypatch, capsys, "quit")


def test_play_names_the_arguments_of_a_tool_with_several(monkeypatch, capsys):
    text = {"type": "string", "description": "what to count"}
    near = {"enum": ["river", "sea"], "default": "sea"}
    properties = {"text": text, "near": near, "most": {"type": "integer"}}
    survey = ToolSpec("survey", "Looks around.", {"type": "object", "properties": properties, "required": ["text", "most"]})
    count = ToolSpec("count", "Counts.", {"type": "object", "properties": {"text": text, "near": near}, "required": ["text"]})
    tool = CountTool(specs=(survey, count))
    monkeypatch.setitem(gym.registry, "Survey-v0", EnvSpec("Survey-v0", entry_point=lambda: CountEnv(tool)))
    lines = ["survey Bonn", 'survey {"text": "Bonn"}', 'survey {"text": "Bonn", "most": 2}', "count Köln"]
    said = play(monkeypatch, capsys, *lines, 'count {"text": "Köln", "near": "river"}', words=("Survey-v0",))
    assert 'survey {"text": "…", "most": 1}' in said
    for part in (
        "text (string, required): what to count",
        'near ("river" or "sea", default "sea")',
        "most (integer, required)",
    ):
        assert part in said
    assert 'survey takes its arguments as a JSON object: survey {"text": "…", "most": 1}.' in said
    assert "survey needs the argument 'most'." in said
    assert '<survey>{"text": "Bonn", "most": 2}</survey>' in said
    assert "<count>Köln</count>" in said
    assert '<count>{"text": "Köln", "near": "river"}</count>' in said
    assert tool.journal == [("Bonn",), ("Bonn", "Köln"), ("Bonn", "Köln", "Köln")]


def test_play_speaks_json(monkeypatch, capsys):
    words = ("ARPO/SearchMini-v0", "--seed", "3", "--args", "dialect=json", "split=test")
    text = play(monkeypatch, capsys, "search Paris", "answer Rome", "", words=words)
    assert '<tool_call>{"name": "search", "arguments": {"query": "Paris"}}</tool_call>' in text
    assert "Paris: city in France" in text
    assert "answered · reward 0" in text


def test_ctrl_d_at_once_ends_cleanly_and_ctrl_c_gives_130(monkeypatch, capsys):
    assert "You left before the end" in play(monkeypatch, capsys)

    def interrupted(prompt: str = "") -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert main(["play", "ARPO/SearchMini-v0"]) == 130
    assert "Interrupted" in said(capsys)


def test_a_game_runs_nothing_twice_and_leaves_nothing_open():
    tool = CountTool()
    game = Game(lambda: CountEnv(tool), seed=0)
    game.act("<count>a</count>")
    game.fork()
    game.act("<count>b</count>")
    game.undo()
    assert game.act("<count>c</count>").observation.startswith("<result>2 of a,c")
    game.undo()
    game.undo()
    game.switch("1")
    assert game.undo().action == "<count>a</count>", "the other branch went back on a snapshot of its own"
    assert game.act("<answer>1</answer>").ended is Status.ANSWERED
    assert game.current.reward == 1.0
    with pytest.raises(ConfigError, match="over in this branch"):
        game.act("<count>d</count>")
    assert [len(branch.moves) for branch in game.branches] == [1, 0]
    assert tool.journal == [("a",), ("a", "b"), ("a", "c")]
    game.close()
    assert tool.opened == tool.closed


def test_a_game_without_forks_can_still_be_played():
    tool = CountTool(fork_level=ForkLevel.NONE)
    game = Game(lambda: CountEnv(tool), seed=0)
    game.act("<count>a</count>")
    with pytest.raises(ConfigError, match="cannot be copied"):
        game.undo()
    game.close()
    assert tool.opened == tool.closed


@pytest.mark.parametrize("task", ["squad[/dev]-1", "hotpot[dev]/12"])
def test_a_task_is_shown_as_it_is_called(task, tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"id": task, "question": "[bold]Who?[/]", "answer": "me"}))
    words = ("ARPO/Search-v0", "--args", f"tasks={tmp_path / 'tasks.jsonl'}", "--task", task)
    text = play(monkeypatch, capsys, "quit", words=words)
    assert f"task {task}" in text
    assert "[bold]Who?[/]" in text


HOSTILE = "\x1b[2Jgone \u202eback"
SHOWN = "␛[2Jgone <U+202E>back"


def broken() -> gym.Env:
    error = ConfigError(f"error {HOSTILE}")
    error.add_note(f"note {HOSTILE}")
    raise error


def test_nothing_that_others_wrote_steers_the_terminal(tmp_path: Path, monkeypatch, capsys):
    row = {"id": f"id {HOSTILE}", "question": f"question {HOSTILE}", "answers": [f"right {HOSTILE}", f"also {HOSTILE}"]}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(row))
    words = ("ARPO/Search-v0", "--args", f"tasks={tmp_path / 'tasks.jsonl'}", "--seed", "1")
    left = play(monkeypatch, capsys, "instructions", f"serach {HOSTILE}", "quit", words=words)
    ended = play(monkeypatch, capsys, f"answer {HOSTILE}", "branches", "undo", "", words=words)
    for what in ("id", "question", "right"):
        assert f"{what} {SHOWN}" in left
    assert f"right {SHOWN}" in ended
    assert f"also {SHOWN}" in ended
    about = {"type": "object", "properties": {"text": {"type": "string", "description": HOSTILE}}, "required": ["text"]}
    tool = CountTool(specs=(ToolSpec("count", f"tool {HOSTILE}", {**about, "properties": {**about["properties"], "n": {}}}),))
    monkeypatch.setitem(gym.registry, "Hostile-v0", EnvSpec("Hostile-v0", entry_point=lambda: CountEnv(tool)))
    offered = play(monkeypatch, capsys, "quit", words=("Hostile-v0",))
    assert f"tool {SHOWN}" in offered
    assert f"text (string, required): {SHOWN}" in offered
    monkeypatch.setitem(gym.registry, "Broken-v0", EnvSpec("Broken-v0", entry_point=broken))
    assert main(["play", "Broken-v0"]) == 2
    mistake = said(capsys)
    assert f"error {SHOWN}" in mistake
    assert f"note {SHOWN}" in mistake
    assert not {"\x1b", "\u202e"} & {*left, *ended, *offered, *mistake}


def test_a_limit_that_is_infinite_is_none():
    env = CountEnv(CountTool())
    env.max_turns, env.max_tool_calls = math.inf, 7
    game = Game(lambda: env, seed=0)
    assert (game.limit("max_turns"), game.limit("max_tool_calls"), game.limit("unknown")) == (None, 7, None)
    game.close()
