"""`arpo eval` with several answers per question: what it reports, the file of answers, resuming, and comparing."""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from algorithms.cli import answering, main
from algorithms.cli.alone import alone
from algorithms.cli.closed_book import of_closed_book, without_tools
from algorithms.cli.progress import Progress
from algorithms.evaluation import Attempt, pass_at_k, read_attempts
from arpo_envs import ConfigError, ToolEnv, ToolLost

pytestmark = pytest.mark.usefixtures("wide_terminal")

GROWN_AGAIN = {"trees_grown_again", "calls_lost", "tokens_lost"}
SMALL = ["--args", "cities_per_country=4", "split=test", "--questions", "7", "--concurrency", "6", "--samples", "2"]


def words(policy: Path, *more: str) -> list[str]:
    return ["eval", "--policy", str(policy), *SMALL, *more]


def status(given: list[str]) -> int:
    try:
        return main(given)
    except SystemExit as end:
        return int(end.code or 0)


def record_of(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {name: value for name, value in record.items() if name != "seconds"}


@pytest.fixture(scope="module")
def whole(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of an evaluation that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(words(tiny_policy, "--records", str(folder / "a.jsonl"), "--json", str(folder / "a.json"))) == 0
    return folder


def test_trees_whose_tool_was_lost_are_grown_again_and_what_that_cost_is_reported(
    whole: Path, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual, calls = ToolEnv.step, itertools.count()

    def step(env: ToolEnv, action: str) -> Any:
        if next(calls) in (3, 20):
            raise ToolLost("no answer")
        return usual(env, action)

    monkeypatch.setattr(ToolEnv, "step", step)
    assert main(words(tiny_policy, "--records", str(tmp_path / "a.jsonl"), "--json", str(tmp_path / "a.json"))) == 0
    record, undisturbed = record_of(tmp_path / "a.json"), record_of(whole / "a.json")
    assert not GROWN_AGAIN & undisturbed.keys()
    assert record["trees_grown_again"] == 2
    assert record["tokens_lost"] > 0
    assert {name: value for name, value in record.items() if name not in GROWN_AGAIN} == undisturbed
    told = " ".join(capsys.readouterr().out.split())
    assert "trees grown again │ 2" in told
    assert f"tokens lost │ {record['tokens_lost']}" in told


def test_it_reports_what_the_answers_come_to(whole: Path) -> None:
    attempts, record = read_attempts(whole / "a.jsonl"), record_of(whole / "a.json")
    assert [(one.question, one.sample) for one in attempts] == [(q, s) for q in range(7) for s in range(2)]
    right = [sum(one.success == 1.0 for one in attempts if one.question == q) for q in range(7)]
    for k in (1, 2):
        assert record[f"pass@{k}"] == pytest.approx(sum(pass_at_k(2, own, k) for own in right) / 7)
    assert record["avg@2"] == record["success"] == pytest.approx(sum(right) / 14)
    for name in ("em", "f1", "reward", "turns_per_rollout", "sampled_tokens_per_rollout", "malformed_calls_per_rollout"):
        assert record[f"{name}_low"] <= record[name] <= record[f"{name}_high"]
    assert record["tool_calls_per_rollout"] == pytest.approx(sum(one.tool_calls for one in attempts) / 14)
    assert record["truncated"] == pytest.approx(sum(one.truncated for one in attempts) / 14)
    assert sum(value for name, value in record.items() if name.startswith("ended_")) == 14


def test_of_a_block_that_a_lost_server_left_nothing_else_is_asked_again(
    whole: Path, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    for name in ("a.jsonl", "a.jsonl.settings"):
        shutil.copy(whole / name, tmp_path)
    lost = [one.question in (3, 4, 5) for one in read_attempts(file)]
    lines = [
        replace(one, success=None).line() if gone else one.line() for one, gone in zip(read_attempts(file), lost, strict=True)
    ]
    file.write_text("".join(lines), encoding="utf-8")
    asked, usual = [], answering.attempts_of

    def counted(trees: Any, grade: Any, *, first: int) -> list[Attempt]:
        asked.append(first)
        return usual(trees, grade, first=first)

    monkeypatch.setattr(answering, "attempts_of", counted)
    assert main(words(tiny_policy, "--records", str(file), "--json", str(tmp_path / "a.json"), "--resume")) == 0
    assert asked == [3]
    assert file.read_bytes() == (whole / "a.jsonl").read_bytes()
    assert record_of(tmp_path / "a.json") == record_of(whole / "a.json")


def test_without_tools_it_asks_the_same_questions_and_says_what_was_remembered(tiny_policy: Path, tmp_path: Path) -> None:
    given = words(tiny_policy, "--records", str(tmp_path / "a.jsonl"), "--json", str(tmp_path / "a.json"), "--closed-book")
    given += ["--price-sampled", "2e6"]
    assert status(given) == 0
    with_tools, without = read_attempts(tmp_path / "a.jsonl"), read_attempts(tmp_path / "a.jsonl.closed")
    assert [(one.id, one.sample) for one in without] == [(one.id, one.sample) for one in with_tools]
    assert any(one.tool_calls for one in with_tools)
    assert not any(one.tool_calls for one in without)
    record, bytes_before = record_of(tmp_path / "a.json"), (tmp_path / "a.jsonl.closed").read_bytes()
    assert record["cost"] == 2 * sum(one.tokens for one in with_tools)
    assert record["cost_per_rollout"] == record["cost"] / 14
    assert record["closed_book/success"] == pytest.approx(sum(one.success or 0.0 for one in without) / 14)
    assert record["closed_book/f1_low"] <= record["closed_book/f1"] <= record["closed_book/f1_high"]
    (tmp_path / "a.jsonl.closed").write_bytes(bytes_before[: len(bytes_before) // 2])
    assert status([*given, "--resume"]) == 0
    assert (tmp_path / "a.jsonl.closed").read_bytes() == bytes_before
    assert record_of(tmp_path / "a.json") == record


def test_what_fails_without_tools_costs_no_answer_with_tools(
    whole: Path, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual, asked = answering.Answers.complete, []

    async def complete(answers: answering.Answers, *given: Any) -> None:
        asked.append(answers)
        if len(asked) > 1:
            raise ConfigError("No server answers any more.")
        await usual(answers, *given)

    monkeypatch.setattr(answering.Answers, "complete", complete)
    assert status(words(tiny_policy, "--closed-book", "--json", str(tmp_path / "a.json"))) == 0
    assert record_of(tmp_path / "a.json") == record_of(whole / "a.json")
    assert "not measured without tools: ConfigError: No server answers any more." in " ".join(capsys.readouterr().out.split())


def test_where_one_file_cannot_be_begun_the_other_is_not(
    tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, closed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.closed"
    given = words(tiny_policy, "--records", str(file), "--closed-book")
    for existing in (file, closed):
        existing.touch()
        assert status(given) == 2
        assert f"{existing} exists" in " ".join(capsys.readouterr().err.split())
        assert [*tmp_path.iterdir()] == [existing]
        existing.unlink()
    assert status([*given, "--resume"]) == 2
    assert not [*tmp_path.iterdir()]


def test_answers_on_which_another_command_is_at_work_are_left_alone(
    whole: Path, tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.jsonl"
    for name in ("a.jsonl", "a.jsonl.settings"):
        shutil.copy(whole / name, tmp_path)
    with file.open("ab") as cut:
        cut.write(b"{")
    before = file.read_bytes()
    with alone(tmp_path / "a.jsonl.settings"):
        assert status(words(tiny_policy, "--records", str(file), "--resume")) == 2
    assert f"Another command is at work on {file}: wait" in " ".join(capsys.readouterr().err.split())
    assert file.read_bytes() == before


def test_what_is_right_without_tools_is_counted_by_question() -> None:
    def attempts(*scores: float) -> list[Attempt]:
        return [Attempt(i, 0, f"q{i // 2}", "", "answered", s, s, "x", {}, {}, 0, 1, 1, 0, False) for i, s in enumerate(scores)]

    found = of_closed_book(attempts(1.0, 0.0, 1.0, 1.0, 0.0, 0.5), attempts(0.0, 1.0, 0.0, 0.0, 1.0, 1.0))
    assert found["right_without_tools"] == 1 / 2  # q0 and q1 are right with tools, q0 and q2 without
    assert found["closed_book/success"] == 1 / 2
    lost = [replace(one, success=None) for one in attempts(0.0, 1.0)] + attempts(0.0, 0.0, 0.0, 0.0)[2:]
    assert of_closed_book(attempts(1.0, 0.0, 1.0, 1.0), lost)["right_without_tools"] == 0.0, "of q1 alone"
    assert of_closed_book(attempts(1.0), lost[:1])["right_without_tools"] is None
    assert of_closed_book(attempts(0.0), attempts(1.0))["right_without_tools"] is None
    assert of_closed_book(attempts(1.0), []) == {}
    assert without_tools("ARPO/Search-v0", ("split=test",)) == ("split=test", "max_tool_calls=0")
    with pytest.raises(ConfigError, match="cannot be asked without tools"):
        without_tools("CartPole-v1", ())


@pytest.mark.parametrize(("quiet", "lines"), [(10.0, []), (-1.0, ["6 of 9 questions, success 0.500"])])
def test_its_progress_is_a_bar_on_a_terminal_and_a_line_now_and_then_elsewhere(
    quiet: float, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algorithms.cli.progress._QUIET", quiet)
    for is_terminal in (True, False):
        written = io.StringIO()
        with Progress(Console(file=written, force_terminal=is_terminal, width=120)) as progress:
            for done, success in ((0, None), (6, 0.5), (9, 1 / 3)):
                progress.asked(done, 9, success)
        found = written.getvalue()
        assert ("asking" in found) == is_terminal
        if not is_terminal:
            assert [line.split("s  ")[-1] for line in found.splitlines()] == lines


def test_its_progress_moves_with_every_answer(
    whole: Path, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, int, float | None]] = []
    monkeypatch.setattr(Progress, "asked", lambda _, *how_far: told.append(how_far))
    assert main(words(tiny_policy, "--records", str(tmp_path / "a.jsonl"))) == 0
    blocks = [0.0, 3.0, 6.0, 7.0]
    assert [done for done, _, _ in told] == sorted([*(half / 2 for half in range(15)), *blocks[1:]])
    assert {total for _, total, _ in told} == {7}
    assert [reached is None for done, _, reached in told if done < 3] == [True] * 6, "nothing is graded yet"
    assert (tmp_path / "a.jsonl").read_bytes() == (whole / "a.jsonl").read_bytes()


@pytest.mark.parametrize("cut", [0.0, 0.55, 1.0])
def test_an_evaluation_that_was_cut_off_continues_to_the_same_bytes(
    cut: float, whole: Path, tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content = tmp_path / "a.jsonl", (whole / "a.jsonl").read_bytes()
    file.write_bytes(content[: int(cut * len(content))])
    (tmp_path / "a.jsonl.settings").write_bytes((whole / "a.jsonl.settings").read_bytes())
    again = ["--records", str(file), "--resume", "--json", str(tmp_path / "a.json")]
    assert main(words(tiny_policy, *again)) == 0
    assert file.read_bytes() == content
    assert record_of(tmp_path / "a.json") == record_of(whole / "a.json")
    assert "pass@2" in capsys.readouterr().out


def test_an_evaluation_against_itself_and_against_other_questions(
    whole: Path, tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(whole / "a.jsonl")
    assert main(words(tiny_policy, "--against", other, "--json", str(tmp_path / "a.json"))) == 0
    record, told = record_of(tmp_path / "a.json"), capsys.readouterr().out
    assert record["against"] == other
    different = len({one.id for one in read_attempts(whole / "a.jsonl")})  # one may be asked twice
    assert (record["difference/success"], record["difference/success_p"]) == (0.0, 1.0)
    assert record["difference/f1_questions"] == different
    assert f"better on 0 and worse on 0 of {different} questions" in told
    assert status([*words(tiny_policy, "--against", other), "--questions", "3"]) == 2
    assert "has answers to 7 questions, but 3 are to be asked" in " ".join(capsys.readouterr().err.split())
    elsewhere = [*words(tiny_policy, "--against", other, "--json", str(tmp_path / "b.json")), "--args", "cities_per_country=6"]
    assert status([*elsewhere, "split=train"]) == 2
    assert "A paired test needs the same questions on both sides" in " ".join(capsys.readouterr().err.split())
    assert "success" in record_of(tmp_path / "b.json"), "the result stands"


def test_mistakes_stop_before_the_model_is_loaded(
    whole: Path, tiny_policy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algorithms.cli.answering.load_tokenizer", None)
    for more, message in (
        (["--records", str(whole / "a.jsonl")], "exists. Continue it with --resume"),
        (["--records", str(whole / "a.jsonl"), "--resume", "--seed", "2"], "other settings: seed (was 1, is 2)"),
        (["--records", str(whole / "b.jsonl"), "--resume"], "There is no file"),
        (["--resume"], "--resume needs --records"),
        (["--against", str(whole / "a.json")], "line 1: expected an answer"),
        (["--concurrency", "0"], "concurrency must be at least 1"),
    ):
        assert status(words(tiny_policy, *more)) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_killed_in_the_middle_it_continues_to_the_same_bytes(tiny_policy: Path, tmp_path: Path) -> None:
    def begin(name: str, *more: str) -> subprocess.Popen[bytes]:
        many = [*words(tiny_policy, "--records", str(tmp_path / f"{name}.jsonl"), *more), "--questions", "60"]
        return subprocess.Popen(
            [sys.executable, "-m", "algorithms.cli", *many, "--json", str(tmp_path / f"{name}.json")],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    killed, file = begin("killed"), tmp_path / "killed.jsonl"
    while not file.is_file() or file.read_bytes().count(b"\n") < 13:
        assert killed.poll() is None
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    content = file.read_bytes()
    assert 13 <= content.count(b"\n") < 120
    assert all(json.loads(line) for line in content.splitlines()), "valid at every moment"
    assert begin("killed", "--resume").wait() == begin("whole").wait() == 0
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert record_of(tmp_path / "killed.json") == record_of(tmp_path / "whole.json")
