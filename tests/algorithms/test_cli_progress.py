"""What a person sees of a run: no long silence, whatever takes the time, and no more lines than that needs."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from algorithms.cli import main
from algorithms.cli.progress import Progress, saying
from algorithms.cluster import Standing


def lines_of(monkeypatch: pytest.MonkeyPatch, quiet: float, *reports: tuple[str, int, int, float | None]) -> list[str]:
    monkeypatch.setattr("algorithms.cli.progress._QUIET", quiet)
    written = io.StringIO()
    with Progress(Console(file=written, width=100)) as progress:
        for report in reports:
            progress.phase(*report)
    return [line.partition(" s ")[2].strip() for line in written.getvalue().splitlines()]


EPISODES = [("episodes for drills", done, 3, None) for done in (1, 2, 3)]


def test_what_is_quick_is_told_in_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    drills = [("drills", done, 100, done / 100) for done in range(1, 101)]
    assert lines_of(monkeypatch, 3600.0, *EPISODES, *drills) == [
        f"cold start, drills: step {done} of 100, accuracy {done / 100:.2f}" for done in (25, 50, 75, 100)
    ]


def test_what_takes_long_is_told_while_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [f"cold start, episodes for drills: step {done} of 3" for done in (1, 2, 3)]
    assert lines_of(monkeypatch, -1.0, *EPISODES) == told


ZERO = dict.fromkeys(
    (
        *("rollout_seconds", "update_seconds", "reward", "success", "executed_tool_calls_per_prompt", "forks_per_prompt"),
        *("inherited_tool_calls_per_prompt", "entropy", "tokens_per_second"),
    ),
    0.0,
)


def test_the_bar_still_shows_lost_engines_while_the_next_step_is_learned() -> None:
    written = io.StringIO()
    with Progress(Console(file=written, width=160, force_terminal=True)) as progress:
        progress.listener.show(Standing(alive=1, engines=2, done=9, under_way=0, waiting=0, retried=1))
        progress.step(1, 2, ZERO)
    assert "success 0.00  1 of 2 engines alive" in written.getvalue()


def test_steps_are_told_when_due_and_when_it_was_quiet_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(quiet: float) -> int:
        monkeypatch.setattr("algorithms.cli.progress._QUIET", quiet)
        written = io.StringIO()
        with Progress(Console(file=written, width=100)) as progress:
            for done in range(1, 101):
                progress.step(done, 100, ZERO)
        return len(written.getvalue().splitlines()) - 1

    assert steps(3600.0) == 21
    assert steps(-1.0) == 100


# --- commands that count what they read or ask ----------------------------------------------------------------------------


def test_on_a_terminal_it_is_beside_a_spinner_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algorithms.cli.progress._QUIET", -1.0)
    written = io.StringIO()
    with saying(Console(file=written, width=100, force_terminal=True), "begun") as say:
        say("[bold]3 of 5")
    assert "[bold]3 of 5" in written.getvalue()
    assert " s  " not in written.getvalue()


def test_elsewhere_it_is_a_line_if_the_last_one_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    for quiet, lines in (3600.0, 0), (-1.0, 2):
        monkeypatch.setattr("algorithms.cli.progress._QUIET", quiet)
        written = io.StringIO()
        with saying(Console(file=written, width=100), "begun") as say:
            say("[1] of 2")
            say("[2] of 2")
        assert [line.partition(" s ")[2].strip() for line in written.getvalue().splitlines()] == ["[1] of 2", "[2] of 2"][
            :lines
        ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report {run} --output {out}/page.html", " trees read, 0.0 MB"),
        ("export {run} --output {out}/documents", "1 documents of 1 trees"),
        ("entropy --run {run} --output {out}/entropy", "1 trees read"),
        ("entropy --policy {policy} --questions 3 --output {out}/entropy", "1 of 3 questions asked"),
        ("bench env --episodes 1", "env: "),
    ],
)
def test_a_command_without_a_terminal_says_how_far_it_is(
    words: str,
    said: str,
    tiny_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("algorithms.cli.progress._QUIET", -1.0)
    monkeypatch.setenv("COLUMNS", "200")
    run = tmp_path / "run"
    train = ["--env-args", "cities_per_country=4", "--prompts", "2", "--rollouts", "2", "--eval-questions", "1", "--steps", "1"]
    if "{run}" in words:
        assert main(["train", "--policy", str(tiny_policy), "--output", str(run), *train]) == 0
    capsys.readouterr()
    assert main(words.format(run=run, out=tmp_path, policy=tiny_policy).split()) == 0
    assert said in capsys.readouterr().out
