"""What a person sees while a run is under way: a live bar on a terminal, plain lines otherwise."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_PHASE_LINES = 4
_STEP_LINES = 20


class Progress:
    """Progress of one run.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = RichProgress(
            TextColumn("[bold]{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, int] = {}
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stops drawing."""
        self._bar.stop()

    def note(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(f"[dim]{time.perf_counter() - self._began:6.0f} s[/]  {text}", highlight=False)

    def phase(self, name: str, done: int, total: int, accuracy: float) -> None:
        """Reports a step of the cold start."""
        self._advance(name, done, total, f"accuracy {accuracy:.2f}")
        if done == total or done % max(1, total // _PHASE_LINES) == 0:
            self.note(f"cold start, {name}: step {done} of {total}, accuracy {accuracy:.2f}")

    def step(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Reports a training step."""
        text = (
            f"reward {metrics['reward']:5.2f}  success {metrics['success']:.2f}  "
            f"calls {metrics['executed_tool_calls_per_prompt']:4.1f}+{metrics['inherited_tool_calls_per_prompt']:4.1f}  "
            f"forks {metrics['forks_per_prompt']:3.1f}  entropy {metrics['entropy']:.2f}  "
            f"{metrics['tokens_per_second']:,.0f} tok/s"
        )
        self._advance("training", done, total, text)
        if done == 1 or done == total or done % max(1, total // _STEP_LINES) == 0:
            self.note(f"step {done:>3}/{total}  {text}")

    def _advance(self, name: str, done: int, total: int, text: str) -> None:
        for other, task in self._tasks.items():
            self._bar.update(task, visible=other == name)  # type: ignore[arg-type]  # rich's TaskID is an int
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, text=text)
        self._bar.update(self._tasks[name], completed=done, text=text)  # type: ignore[arg-type]
