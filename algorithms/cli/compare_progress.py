"""What a person sees while a comparison trains: a bar of tool calls on a terminal, a line per run otherwise."""

import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .budget import CallBudget
from .runs import Run

_QUIET = 60.0
"""Seconds between two lines about runs under way, where there is no bar."""


class CompareProgress:
    """Progress of a comparison.

    Args:
        console: where to draw.
        runs: that spend the budget.
        budget: tool calls of each.
    """

    def __init__(self, console: Console, runs: Sequence[Run], budget: int) -> None:
        self._console, self._runs, self._budget = console, runs, budget
        self._finished = [run for run in runs if run.is_finished]
        self._began = self._noted = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:3.0f}% of all tool calls"),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("comparing", total=budget * len(runs), text="", completed=self._spent())

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stops drawing."""
        self._bar.stop()

    def look(self, busy: Sequence[Run]) -> None:
        """Draws how far the runs under way have come."""
        own = {run.folder.name: self._calls(run) for run in busy if run in self._runs}
        self._bar.update(
            self._task, completed=self._spent() + sum(own.values()), text=", ".join(run.folder.name for run in busy)
        )
        if not self._console.is_terminal and time.monotonic() - self._noted > _QUIET:
            told = [f"{name}: {calls:,.0f} of {self._budget:,} tool calls" for name, calls in own.items()]
            told += [f"{run.folder.name}: being made" for run in busy if run not in self._runs]
            self._note("; ".join(told))

    def done(self, run: Run) -> None:
        """Prints a line about a run that has finished."""
        if run not in self._runs:
            self._note(f"{run.folder.name}: made")
            return
        self._finished.append(run)
        success = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))["success_after_sampled"]
        self._note(f"{run.folder.name}: held-out success {success:.3f} ({len(self._finished)} of {len(self._runs)} runs)")

    def _calls(self, run: Run) -> float:
        return min(float(self._budget), CallBudget.of(None, run.folder / "metrics.jsonl").spent)

    def _spent(self) -> int:
        return self._budget * len(self._finished)

    def _note(self, text: str) -> None:
        self._noted = time.monotonic()
        self._console.print(f"[dim]{self._noted - self._began:6.0f} s[/]  {escape(text)}", highlight=False)
