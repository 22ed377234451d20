"""Transcripts, and the lengths `arpo eval` takes."""

import io
import json
import shutil

import pytest
from rich.console import Console

from algorithms.cli import main
from algorithms.cli.answering import sizes
from algorithms.cli.config import TrainConfig
from algorithms.cli.eval_config import EvalConfig
from algorithms.cli.transcript import transcript
from algorithms.learner import LearnerConfig
from algorithms.rollout import Limits
from algorithms.tree import NO_PARENT, Node, RolloutTree, Status
from arpo_envs.errors import ConfigError


def node(key: tuple[int, ...], parent: int, kind: str, text: str, **rest) -> Node:
    return Node(key, parent, 1, kind, (1,), (False,), (0.0,), (0.0,), text, **rest)


def shown(tree: RolloutTree, leaf: int) -> list[str]:
    console = Console(width=60, file=io.StringIO())
    with console.capture() as captured:
        console.print(transcript(tree, leaf, "task 7"))
    return [line.strip("│╭╮╰╯─ ") for line in captured.get().splitlines()]


def test_a_transcript_shows_who_said_what_and_how_it_ended():
    tree = RolloutTree("t")
    tree.add(node((), NO_PARENT, "prompt", "How many?\n"))
    tree.add(node((0,), 0, "action", "", tool=""))
    tree.add(node((0, 0), 1, "observation", "<result>No call found.</result>"))
    tree.add(node((0, 0, 0), 2, "action", "[red]<answer>7</answer>", status=Status.ANSWERED, reward=1.0, success=1.0))
    expected = ["task 7", "How many?", "(nothing)", "<result>No call found.</result>", "[red]<answer>7</answer>"]
    assert shown(tree, 3)[:-1] == [*expected, "answered · reward 1"]


def test_an_action_that_a_fork_split_is_shown_once():
    tree = RolloutTree("t")
    tree.add(node((), NO_PARENT, "prompt", "How many?"))
    tree.add(node((0,), 0, "action", ""))
    tree.add(node((0, 0), 1, "action", "<count>x</count>", status=Status.TRUNCATED, reward=0.0))
    assert shown(tree, 2)[1:-1] == ["How many?", "<count>x</count>", "truncated · reward 0"]


def test_a_path_that_failed_says_why():
    tree = RolloutTree("t")
    tree.add(node((), NO_PARENT, "prompt", "How many?"))
    tree.add(node((0,), 0, "action", "<count>x</count>", status=Status.TOOL_FAULT, fault="OSError: gone"))
    assert shown(tree, 1)[-2] == "tool fault (OSError: gone) · reward 0"


def test_eval_prints_as_many_transcripts_as_asked(tiny_policy, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = ["eval", "--policy", str(tiny_policy), "--questions", "3", "--args", "split=test", "cities_per_country=4"]
    assert main([*words, "--show", "2"]) == 0
    assert capsys.readouterr().out.count("· reward") == 2
    assert main(words) == 0
    assert "· reward" not in capsys.readouterr().out


def lengths(config: TrainConfig) -> tuple[int, int]:
    return config.limits.action_tokens, config.context_length


def test_a_run_is_evaluated_with_its_own_lengths(tiny_policy, tmp_path):
    shutil.copytree(tiny_policy, tmp_path / "policy")
    plain = sizes(EvalConfig(policy=str(tmp_path)), tmp_path / "policy")
    assert lengths(plain) == (16, 512), "as `arpo train` would choose them"
    limits = Limits(action_tokens=9)
    TrainConfig(policy=str(tiny_policy), output=tmp_path, limits=limits, context_length=300).resolved().save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["limits"]["action_tokens"] == 9
    own = sizes(EvalConfig(policy=str(tmp_path)), tmp_path / "policy")
    assert lengths(own) == (9, 300)
    asked = sizes(EvalConfig(policy=str(tmp_path), action_tokens=5), tmp_path / "policy")
    assert lengths(asked) == (5, 300)


@pytest.mark.parametrize("name", ["action_tokens", "context_length"])
def test_a_length_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        EvalConfig(policy="x", **{name: 0})


def test_a_micro_batch_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="micro_batch_tokens must be at least 1"):
        LearnerConfig(micro_batch_tokens=0)
    assert TrainConfig(policy="somewhere").resolved().learner.micro_batch_tokens == 4096
