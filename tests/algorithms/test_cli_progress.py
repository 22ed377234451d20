"""What a person sees of a run: no long silence, whatever takes the time, and no more lines than that needs."""

import io

import pytest
from rich.console import Console

from algorithms.cli.progress import Progress


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


def test_steps_are_told_when_due_and_when_it_was_quiet_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = dict.fromkeys(
        (
            *("rollout_seconds", "update_seconds", "reward", "success", "executed_tool_calls_per_prompt", "forks_per_prompt"),
            *("inherited_tool_calls_per_prompt", "entropy", "tokens_per_second"),
        ),
        0.0,
    )

    def steps(quiet: float) -> int:
        monkeypatch.setattr("algorithms.cli.progress._QUIET", quiet)
        written = io.StringIO()
        with Progress(Console(file=written, width=100)) as progress:
            for done in range(1, 101):
                progress.step(done, 100, zero)
        return len(written.getvalue().splitlines()) - 1

    assert steps(3600.0) == 21
    assert steps(-1.0) == 100
