"""What a person sees while a run or an evaluation is under way: a live bar on a terminal, plain lines otherwise."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from arpo_envs.screen import readable

from ..cluster import Listener, Standing
from ..rollout import Failures, place, reason

_PHASE_LINES = 4
_STEP_LINES = 20
_FIRST = 2.0
"""Seconds after which a command says what it is at, where there is no terminal."""
_QUIET = 10.0
"""Seconds without a line after which the next event is reported, whatever it is."""


class Progress:
    """Progress of one run or evaluation.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self.failures = Failures(self._failed)
        """Of all rollouts of the run; each distinct one is reported when it first happens, and with its count at the end."""
        self._console = console
        self._bar = RichProgress(
            TextColumn("[bold]{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}{task.fields[ranks]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.listener = Listener(lambda line: self.note(f"[yellow]{escape(line)}[/]"), self._standing, self._ranks_are)
        """Of engines and ranks in other processes."""
        self._engines = ""
        """How many of them were alive when they last reported; shown until the next batch."""
        self._ranks = ""
        """How many of the learner's ranks are alive; nothing where it has none."""
        self._staleness: float | None = None
        """Of the last step; None where rollouts are never old."""
        self._tasks: dict[str, int] = {}
        self._began = self._noted = time.perf_counter()
        self._first_step: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stops drawing, and says how often each failure happened."""
        self._bar.stop()
        for what, why, count in self.failures.counted():
            if count > 1:
                self.note(f"[yellow]{count:,} × {_words(what)}[/]: {escape(why)}")

    def note(self, text: str) -> None:
        """Prints a line that stays; what it quotes cannot steer the terminal."""
        self._noted = time.perf_counter()
        shown = readable(text, self._console.encoding)
        self._console.print(f"[dim]{time.perf_counter() - self._began:6.0f} s[/]  {shown}", highlight=False)

    def _failed(self, what: str, error: BaseException) -> None:
        where = f" ({place(error)})" if place(error) else ""
        self.note(f"[yellow]{_words(what)}[/]: {escape(reason(error))}{escape(where)}; others like it are counted")

    def phase(self, name: str, done: int, total: int, accuracy: float | None) -> None:
        """Reports a step of the cold start; a phase without an accuracy is reported only if it takes long."""
        learned = "" if accuracy is None else f"accuracy {accuracy:.2f}"
        self._advance(name, done, total, learned)
        if self._is_due(done, total, 0 if accuracy is None else _PHASE_LINES):
            self.note(f"cold start, {name}: step {done} of {total}{learned and ', '}{learned}")

    def asked(self, done: float, total: int, success: float | None) -> None:
        """Reports how many questions of an evaluation are answered, and their success; a line only if it takes long.

        Args:
            done: so many; a part of one where a question has some of its answers.
            total: all of them.
            success: of those that are graded; None before the first ones are.
        """
        reached, whole = "" if success is None else f"success {success:.3f}", int(done)
        self._advance("asking", done, total, reached)
        if self._is_due(whole, total, 0) and 0 < whole < total:
            self.note(f"{whole:,} of {total:,} questions{reached and ', '}{reached}")

    def _standing(self, now: Standing) -> None:
        """Reports how many prompts the engines have done; a line only if it takes long."""
        total, words = now.done + now.under_way + now.waiting, in_words(now)
        self._engines = words[0]
        self._advance("rollouts", now.done, total, ", ".join(words))
        if self._is_due(now.done, total, 0) and 0 < now.done < total:
            self.note(f"{now.done:,} of {total:,} prompts done: {', '.join(filter(None, [*words, self._ranks]))}")

    def _ranks_are(self, alive: int, count: int) -> None:
        self._ranks = f"{alive} of {count} ranks alive"
        for task in self._bar.task_ids:  # they may be lost, and be started again, in the middle of an update
            self._bar.update(task, ranks=f"  {self._ranks}")

    def _is_due(self, done: int, total: int, lines: int) -> bool:
        """Whether to print a line: about `lines` times in all, and whenever nothing has been printed for long."""
        planned = lines > 0 and (done == total or done % max(1, total // lines) == 0)
        return planned or time.perf_counter() - self._noted > _QUIET

    def step(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Reports a training step; the first line has the headings of the columns above it."""
        now = time.perf_counter()
        if self._first_step is None:
            self._first_step = (done - 1, now - metrics["rollout_seconds"] - metrics["update_seconds"])
            self.note(_columns("step", "reward", "success", "calls", "forks", "entropy", "tokens/s", "left"))
        before, began = self._first_step
        left = (now - began) / (done - before) * (total - done)
        age = f"staleness {metrics['staleness']:.0f}" if "staleness" in metrics else ""
        learned = [f"reward {metrics['reward']:.2f}", f"success {metrics['success']:.2f}", self._engines, age]
        self._advance("training", done, total, "  ".join(filter(None, learned)))
        if done == before + 1 or self._is_due(done, total, _STEP_LINES):
            line = _columns(
                f"{done}/{total}",
                f"{metrics['reward']:.2f}",
                f"{metrics['success']:.2f}",
                f"{metrics['executed_tool_calls_per_prompt']:.1f}+{metrics['inherited_tool_calls_per_prompt']:.1f}",
                f"{metrics['forks_per_prompt']:.1f}",
                f"{metrics['entropy']:.2f}",
                f"{metrics['tokens_per_second']:,.0f}",
                f"{left:.0f} s",
            )
            self.note(line)
        if self._staleness != (staleness := metrics.get("staleness")):  # a column would make the table too wide
            self._staleness = staleness
            self.note(f"{age}: by so many updates the rollouts of step {done} are older than the weights they train")

    def _advance(self, name: str, done: float, total: int, text: str) -> None:
        for other, task in self._tasks.items():
            self._bar.update(task, visible=other == name)  # type: ignore[arg-type]  # rich's TaskID is an int
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, text=text, ranks=self._ranks and f"  {self._ranks}")
        self._bar.update(self._tasks[name], completed=done, total=total, text=text)  # type: ignore[arg-type]


@contextmanager
def saying(console: Console, begun: str) -> Iterator[Callable[[str], None]]:
    """Shows what a command is at: beside a spinner on a terminal, and elsewhere in plain lines, one in ten seconds at most.

    Elsewhere there is a line after two seconds, even if nothing more is said.

    Args:
        console: where.
        begun: what is said first.

    Yields:
        What says how far it is.
    """
    began = noted = time.perf_counter()
    latest = begun

    def note() -> None:
        nonlocal noted
        noted = time.perf_counter()
        console.print(f"[dim]{noted - began:6.0f} s[/]  {escape(readable(latest, console.encoding))}", highlight=False)

    def say(text: str) -> None:
        nonlocal latest
        latest = text
        status.update(escape(readable(text, console.encoding)))
        if not console.is_terminal and time.perf_counter() - noted > _QUIET:
            note()

    first = threading.Timer(_FIRST, note)
    first.daemon = True
    with console.status(escape(readable(begun, console.encoding))) as status:
        if not console.is_terminal:
            first.start()
        try:
            yield say
        finally:
            first.cancel()


def in_words(now: Standing) -> list[str]:
    """Returns what is shown of engines in other processes, each thing in a few words, first whether they are alive.

    Args:
        now: how far a batch is.

    >>> in_words(Standing(alive=3, engines=4, done=10, under_way=6, waiting=8, retried=1))
    ['3 of 4 engines alive', '6 prompts under way', '8 waiting', '1 asked again']
    """
    return [
        f"{now.alive} of {now.engines} engines alive",
        f"{now.under_way:,} prompts under way",
        f"{now.waiting:,} waiting",
        f"{now.retried:,} asked again",
    ]


def _words(what: str) -> str:
    """Returns a status as a person would say it."""
    return what.replace("_", " ")


def _columns(*cells: str) -> str:
    """Returns one line of the table of steps, narrow enough for 80 columns; wide cells move what follows, but never touch."""
    widths = (7, 6, 7, 9, 5, 7, 8, 7)
    return " ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
