"""`--prompt` and `--examples`: true transcripts of other questions, and the same in every command that asks."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from rich.console import Console
from test_cli_train import exit_status, said

from algorithms.cli import main, prompting, train
from algorithms.cli.answering import Sitting
from algorithms.cli.config import TrainConfig
from algorithms.cli.environments import env_maker
from algorithms.cli.eval_config import EvalConfig
from algorithms.cli.parts import assemble
from algorithms.cli.progress import Progress
from algorithms.cli.prompting import Prompting
from algorithms.cli.sft_config import SftConfig
from algorithms.models.built_in import MARK
from algorithms.models.demonstrations.expert import worked_examples
from arpo_envs import ConfigError, ToolEnv
from arpo_envs.envs import IDS
from arpo_envs.envs.named import make_env
from arpo_envs.rewards import HierarchicalReward
from arpo_envs.tasks.files import FileTasks

pytestmark = pytest.mark.usefixtures("wide_terminal")

MINI, FEW = "ARPO/SearchMini-v0", {"cities_per_country": 4}


def examples_of(env: str, options: dict[str, Any], count: int = 2, prompt: str = "ours") -> list[tuple[str, ...]]:
    """Returns the examples that an environment shows in an episode."""
    made = env_maker(env, options, Prompting(prompt, count))()
    made.reset(seed=0)
    shown = [*made.get_wrapper_attr("examples")]
    made.close()
    return shown


@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_examples_are_episodes_that_the_environment_would_repeat_word_by_word(dialect: str) -> None:
    options = {**FEW, "dialect": dialect, "split": "test"}
    asked = make_env(MINI, {**options, "split": "train"})
    source = asked.get_wrapper_attr("tasks")
    by_question = {task.question: task for task in map(source.get, {source.draw(rng).id for rng in generators(4000)})}
    shown = worked_examples(lambda: make_env(MINI, {**options, "split": "train"}), 3)
    assert shown[:2] == examples_of(MINI, options)
    assert len({question for question, *_ in shown}) == 3
    for question, *texts in shown:
        assert asked.reset(options={"task": by_question[question].id})[0] == question, "it is of the training split"
        for action, result in zip(texts[::2], [*texts[1::2], ""], strict=True):
            observation, reward, *_ = asked.step(action)
            assert observation == result
        assert reward == 1.0
    asked.close()


def generators(count: int) -> Any:
    import numpy as np

    return map(np.random.default_rng, range(count))


def test_examples_are_the_same_for_every_split_and_without_tools() -> None:
    first = examples_of(MINI, {**FEW, "split": "train"})
    assert first == examples_of(MINI, {**FEW, "split": "test"}) == examples_of(MINI, {**FEW, "max_tool_calls": 0})


def test_a_training_question_is_not_its_own_example() -> None:
    made = env_maker(MINI, {**FEW, "split": "train"}, Prompting(examples=1))()
    questions = [one[0] for one in worked_examples(lambda: make_env(MINI, {**FEW, "split": "train"}), 2)]
    source = made.get_wrapper_attr("tasks")
    ids = {task.question: task.id for task in (source.draw(rng) for rng in generators(4000))}
    for asked, shown in (questions, questions[::-1]):
        made.reset(options={"task": ids[asked]})
        assert [question for question, *_ in made.get_wrapper_attr("examples")] == [shown]
    made.close()


@pytest.mark.parametrize(
    "name", [name for name in IDS if name not in ("ARPO/Python-v0", "ARPO/DeepSearch-v0", "ARPO/Mixture-v0")]
)
@pytest.mark.parametrize("prompt", ["ours", "paper"])
def test_every_environment_has_examples(name: str, prompt: str) -> None:
    assert len(examples_of(name, dict(FEW), 1, prompt)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ARPO/Python-v0", "ARPO/DeepSearch-v0", "ARPO/Mixture-v0"])
def test_environments_that_run_code_have_examples(name: str) -> None:
    assert len(examples_of(name, {}, 1, "paper")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ARPO/Python-v0", "ARPO/DeepSearch-v0"])
def test_environments_that_run_code_have_them_for_the_users_questions(name: str, tasks: Path) -> None:
    assert examples_of(name, {"tasks": str(tasks)}) == examples_of(name, {})


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({"id": "a", "question": "Where?", "answers": ["here"]}) + "\n", encoding="utf-8")
    return path


def test_where_nobody_can_demonstrate_what_is_asked_examples_are_about_the_environments_own_questions(
    tasks: Path, tmp_path: Path
) -> None:
    documents = tmp_path / "corpus.jsonl"
    documents.write_text(json.dumps({"id": "1", "title": "Here", "text": "It is here."}) + "\n", encoding="utf-8")
    own = examples_of("ARPO/Search-v0", {"dialect": "json"})
    users = {"tasks": str(tasks), "dialect": "json"}
    assert own == examples_of("ARPO/Search-v0", users)
    assert own == examples_of("ARPO/Search-v0", {**users, "corpus": str(documents)}), "in the documents that it knows"
    assert own == examples_of("ARPO/Search-v0", {**users, "engine": "http://localhost:9/retrieve"})
    made = env_maker("ARPO/Search-v0", users, Prompting(examples=1))()
    assert made.reset(seed=0)[0] == "Where?"
    made.close()


def test_benchmarks_show_examples(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "Where?", "answer": "here"}) + "\n", encoding="utf-8")
    config = EvalConfig(policy=str(tmp_path), benchmark="bamboogle", data=rows, examples=2)
    made = Sitting.of(config, "ARPO/Search-v0", ()).make_env()
    assert made.reset(seed=0)[0] == "Where?"
    shown = made.get_wrapper_attr("examples")
    made.close()
    assert shown == tuple(examples_of("ARPO/Search-v0", {}))
    assert all(texts[-1].startswith("<answer>") for texts in shown)


class OnlyGiven(ToolEnv):
    """Knows no questions of its own."""

    def __init__(self, tasks: str) -> None:
        super().__init__(tasks=FileTasks(tasks), tools=[], reward=HierarchicalReward())


def test_without_questions_of_its_own_an_environment_refuses_examples(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.registry, "OnlyGiven-v0", EnvSpec("OnlyGiven-v0", entry_point=OnlyGiven))
    with pytest.raises(ConfigError, match=r"OnlyGiven-v0 has no scripted expert .* --examples 0"):
        env_maker("OnlyGiven-v0", {"tasks": str(tasks)}, Prompting(examples=1))


def test_an_environment_that_passes_its_options_on_refuses_examples(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def passing(**options: Any) -> OnlyGiven:
        return OnlyGiven(**options)

    monkeypatch.setitem(gym.registry, "Passing-v0", EnvSpec("Passing-v0", entry_point=passing))
    with pytest.raises(ConfigError, match=r"Passing-v0 has no scripted expert .* --examples 0"):
        env_maker("Passing-v0", {"tasks": str(tasks)}, Prompting(examples=1))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: TrainConfig(prompt="paper"), "the embedded policy reads no instructions"),
        (lambda: TrainConfig(policy="x", prompt="serch-r1"), "Did you mean 'search-r1'"),
        (lambda: TrainConfig(policy="x", examples=-1), "must not be negative"),
        (lambda: TrainConfig(policy="x", examples=1, tools="record"), "--examples needs --tools live"),
        (lambda: EvalConfig(policy="x", examples=1, tools="record", recording=Path("t")), "--examples needs --tools live"),
        (lambda: SftConfig(policy="x", data=Path("d"), prompt="paper").require_whole(), "they belong to --env"),
    ],
)
def test_what_would_have_no_effect_is_refused(make: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()


def test_a_run_keeps_it_and_its_evaluation_has_it_too(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    TrainConfig(policy="some/model", prompt="paper", examples=2, output=tmp_path).resolved().save(tmp_path)
    assert TrainConfig.load(tmp_path).prompting == Prompting("paper", 2)
    assert EvalConfig(policy=str(tmp_path)).prompting == Prompting("paper", 2)
    assert EvalConfig(policy=str(tmp_path), prompt="ours", examples=0).prompting == Prompting()


def test_a_policy_without_instructions_cannot_be_asked_with_them(tiny_policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "--policy", str(tiny_policy), "--args", "cities_per_country=4", "--questions", "1", "--examples", "1"]
    assert exit_status(words) == 2
    assert "the embedded policy reads no instructions" in said(capsys)


def test_a_run_plays_its_examples_once_however_often_it_is_evaluated(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = shutil.copytree(tiny_policy, tmp_path / "reader")
    (reader / MARK).unlink()  # to be told something, it must not be the embedded policy
    given = {"policy": str(reader), "env_args": ("cities_per_country=4",), "eval_questions": 1, "examples": 1, "prompts": 1}
    config = TrainConfig.of(given | {"output": tmp_path / "run", "action_tokens": 2, "context_length": 4096}).resolved()
    parts = asyncio.run(assemble(config, reader))
    monkeypatch.setattr(prompting, "worked_examples", lambda *given: pytest.fail("played anew"))
    for part in ("before", "step 1"):
        asyncio.run(train._measure(config, parts, part, Progress(Console(quiet=True))))
    made = parts.held_out()
    assert len(made.get_wrapper_attr("examples")) == 1
    made.close()


def test_play_shows_what_a_policy_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = iter(["instructions", "quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    words = ["play", MINI, "--args", "cities_per_country=4", "--seed", "3", "--prompt", "search-r1", "--examples", "1"]
    assert main(words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "You must conduct reasoning inside <think>" in told
    assert told.count("Example: What is") == 1
