"""`arpo eval`: what a policy reaches on held-out tasks, with intervals, and how it compares with another evaluation."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from arpo_envs import ConfigError

from ..evaluation import Attempt, compared, read_attempts
from ..models.devices import find_device
from ..rollout import Limits, RolloutError, reason
from ..tree import RolloutTree
from .answering import Answers, Sitting, begun
from .closed_book import closed_file, of_closed_book, without_tools
from .eval_config import EvalConfig
from .evaluated import differences, of_differences, summary, table
from .judged import judged, require_judge, tasks_of
from .progress import Progress
from .results import Value, write_json
from .tools import ToolAnswers, require_answerable
from .transcript import transcript


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo eval`."""
    config = tyro.cli(EvalConfig, args=list(arguments), prog="arpo eval", description="Measure a policy on held-out tasks.")
    folder, env, words = config.resolved()
    find_device(config.device)
    sitting = Sitting.of(config, env, words)  # finds mistakes before the model is loaded
    without = Sitting.of(config, env, without_tools(env, words)) if config.closed_book else None
    if config.tools != "live":
        require_answerable(sitting.make_env, Limits())
    other = _other(config.against, len(sitting.questions.starts))
    tasks = tasks_of(sitting) if config.judge is not None else None
    if config.judge is not None:
        require_judge(config)
    console, began = Console(highlight=False), time.perf_counter()
    for why in sitting.questions.malformed:
        console.print(Text(f"Left out: {why}", style="yellow"))
    closed = begun(config, without, folder, closed_file(config.records)) if without is not None else Answers([])
    answers = begun(config, sitting, folder, config.records)
    with Progress(console) as progress, ToolAnswers.of(config.tools, config.recording) as tools:
        asyncio.run(answers.complete(config, folder, sitting, tools, progress))
        if without is not None:
            _ask_without_tools(config, folder, without, closed, progress)
    verdicts = partial(_judged, console, config, tasks)
    attempts, judge = verdicts(answers.attempts, config.records)
    remembered, _ = verdicts(closed.attempts, closed_file(config.records))
    record = summary(config, env, words, attempts, time.perf_counter() - began)
    record |= {"prompt": config.prompting.prompt, "examples": config.prompting.examples}
    record |= {**sitting.questions.record, **judge, **of_closed_book(attempts, remembered)}
    _transcripts(console, answers.trees, config.show)
    console.print(table(record))
    if told := tools.told():
        console.print(Text(told, style="dim"))
    try:
        if other is not None and config.against is not None:
            _compare(console, config, attempts, verdicts(other, config.against)[0], record)
    finally:  # the result stands even if it cannot be compared
        if config.json is not None:
            write_json(config.json, record)
            console.print(Text(f"Written to {config.json}", style="dim"))
    return 0


def _ask_without_tools(config: EvalConfig, folder: Path, sitting: Sitting, answers: Answers, progress: Progress) -> None:
    """Asks questions without tools; if that fails, the answers with tools still count."""
    progress.note(f"asking {len(sitting.questions.starts):,} questions without tools")
    try:
        asyncio.run(answers.complete(config, folder, sitting, ToolAnswers(), progress))
    except RolloutError as error:
        progress.note(f"[yellow]not measured without tools[/]: {escape(reason(error))}")


def _other(against: Path | None, questions: int) -> list[Attempt] | None:
    """Returns the answers to compare with, before the long work."""
    if against is None:
        return None
    other = read_attempts(against)
    if (found := len({one.question for one in other})) != questions:
        raise ConfigError(
            f"{against} has answers to {found} questions, but {questions} are to be asked. A paired test needs the same ones."
        )
    return other


def _judged(
    console: Console, config: EvalConfig, tasks: Any, attempts: Sequence[Attempt], records: Path | None
) -> tuple[list[Attempt], dict[str, str | int]]:
    """Returns answers with a judge's verdicts, and what the result says of these; without a judge the answers alone."""
    if config.judge is None or records is None or not attempts:
        return list(attempts), {}
    with console.status(f"{len(attempts)} answers are judged …"):
        found = judged(config, attempts, tasks, records)
    if found.missing:
        told = f"The judge gave no verdict on {found.missing} of {len(attempts)} answers; its score leaves them out"
        console.print(Text(f"{told}: {found.failure}.", style="yellow"))
    return found.attempts, found.record


def _compare(
    console: Console, config: EvalConfig, attempts: Sequence[Attempt], other: Sequence[Attempt], record: dict[str, Value]
) -> None:
    """Prints a paired test against another evaluation, and adds it to the record."""
    found = compared(attempts, other, seed=config.seed)
    record |= of_differences(str(config.against), found)
    console.print(differences(str(config.against), found))


def _transcripts(console: Console, trees: Sequence[RolloutTree], count: int) -> None:
    ends = [(tree, leaf) for tree in trees for leaf in tree.leaves()]
    for tree, leaf in ends[:count]:
        console.print(transcript(tree, leaf, tree.task))
