"""What a person sees of a run: no long silence, whatever takes the time, and no more lines than that needs."""

import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from algorithms.cli import main
from algorithms.cli.progress import Progress, saying
from algorithms.cluster import Standing
from arpo_envs import ConfigError
from arpo_envs.tools.python import probe_isolation


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


@pytest.mark.parametrize("is_terminal", [True, False])
def test_ranks_and_staleness_are_shown_where_there_are_any(is_terminal: bool) -> None:
    def shown(ranks: bool, *staleness: float) -> str:
        written = io.StringIO()
        with Progress(Console(file=written, width=160, force_terminal=is_terminal)) as progress:
            if ranks:
                progress.listener.ranks(2, 2)
                progress.listener.ranks(0, 2)
            progress._noted = -1e9  # nothing was printed for long
            progress.listener.show(Standing(alive=2, engines=2, done=1, under_way=1, waiting=7, retried=1))
            for step in range(3):
                progress.step(step + 1, 3, ZERO | ({"staleness": staleness[step]} if staleness else {}))
                progress._bar.refresh()
            if ranks:
                progress.listener.ranks(1, 2)
                progress._bar.refresh()
        return written.getvalue()

    text = shown(True, 0.0, 1.0, 1.0)
    assert "2 of 2 engines alive, 1 prompts under way, 7 waiting, 1 asked again, 0 of 2 ranks alive" in text
    assert text.count("staleness 1: by so many updates the rollouts of step 2 are older than the weights they train") == 1
    assert text.count(": by so many updates") == 2, "whenever it changes"
    if is_terminal:
        assert "2 of 2 engines alive  staleness 1  0 of 2 ranks alive" in text
        assert "staleness 1  1 of 2 ranks alive" in text, "also while nothing else happens"
    text = shown(False)
    assert "ranks" not in text
    assert "staleness" not in text


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


@pytest.fixture(scope="module")
def one_step(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run of one step, which the commands only read."""
    run = tmp_path_factory.mktemp("runs") / "run"
    small = ["--env-args", "cities_per_country=4", "--prompts", "2", "--rollouts", "2", "--eval-questions", "1", "--steps", "1"]
    assert main(["train", "--policy", str(tiny_policy), "--output", str(run), *small]) == 0
    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report {run} --output {out}/page.html", " trees read, 0.0 MB"),
        ("export {run} --output {out}/documents", "1 documents of 1 trees"),
        ("entropy --run {run} --output {out}/entropy", "1 trees read"),
        ("entropy --policy {policy} --questions 3 --output {out}/entropy", "1 of 3 questions asked"),
        ("bench env --rounds 1 --episodes 1 --forks 2", "env: "),
        ("show {run}", "0 of 1 steps read"),
        ("show {run} --step 0 --json", "1 of 2 trees read"),
        ("plan --run {run} --simulate 1 --death-engines 4", "4 engines of which some die"),
    ],
)
def test_a_command_without_a_terminal_says_how_far_it_is(
    words: str,
    said: str,
    one_step: Path,
    tiny_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("algorithms.cli.progress._QUIET", -1.0)
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    assert main(words.format(run=one_step, out=tmp_path, policy=tiny_policy).split()) == 0
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    if "--json" in words:
        assert json.loads(shown.out)["step"] == 0, "progress is beside what another program reads"


def test_a_single_long_thing_is_told_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("algorithms.cli.progress._FIRST", 0.0)
    report = probe_isolation()
    monkeypatch.setattr("algorithms.cli.doctor.probe_isolation", lambda: time.sleep(0.5) or report)
    main(["doctor"])
    shown = capsys.readouterr()
    assert "trying the sandbox" in shown.err
    assert "trying the sandbox" not in shown.out


def test_what_is_quick_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algorithms.cli.progress._FIRST", 0.1)
    written = io.StringIO()
    with saying(Console(file=written), "begun"):
        pass
    time.sleep(0.3)
    assert written.getvalue() == ""


# --- lines ----------------------------------------------------------------------------------------------------------------


def test_columns_never_touch_and_fit_in_80_signs() -> None:
    written = io.StringIO()
    with Progress(Console(file=written, width=80)) as progress:
        progress.step(1, 10_000, ZERO | {"tokens_per_second": 82.0, "rollout_seconds": 0.5})
        progress.step(10_000, 10_000, ZERO | {"tokens_per_second": 1234567.0, "executed_tool_calls_per_prompt": 118.4})
    heading, first, last = written.getvalue().splitlines()
    assert re.fullmatch(r" +0 s +1/10000 +0\.00 +0\.00 +0\.0\+0\.0 +0\.0 +0\.00 +82 +\d+ s", first)
    assert last.split()[2:] == ["10000/10000", "0.00", "0.00", "118.4+0.0", "0.0", "0.00", "1,234,567", "0", "s"]
    assert all(len(line) <= 80 for line in (heading, first, last))


def test_no_line_steers_the_terminal() -> None:
    written, hostile = io.StringIO(), "\x1b[2Jgone \u202eback"
    with Progress(Console(file=written, width=200)) as progress:
        for _ in range(2):
            progress.failures.note("tool_failed", ConfigError(hostile))
        with saying(Console(file=written, width=200, force_terminal=True), hostile) as say:
            say(hostile)
    assert written.getvalue().count("␛[2Jgone <U+202E>back") >= 3
    assert "\x1b[2J" not in written.getvalue()
    assert "\u202e" not in written.getvalue()
