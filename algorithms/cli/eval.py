"""`arpo eval`: what a policy reaches on held-out tasks, with intervals, and how it compares with another evaluation."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from arpo_envs import ConfigError

from ..evaluation import Attempt, compared, read_attempts, require_new
from ..models.devices import find_device
from ..rollout import Limits, reason
from ..tree import RolloutTree
from .answering import Answers, Sitting, begun
from .closed_book import closed_file, of_closed_book, without_tools
from .eval_config import EvalConfig
from .evaluated import differences, of_differences, summary, table
from .judged import asks_secrets, has_secrets, judged, judged_file, require_judge, tasks_of
from .outputs import require_file
from .progress import Progress, saying
from .results import Value, write_json
from .tools import ToolAnswers, require_answerable, require_ready
from .transcript import transcript


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo eval`."""
    config = tyro.cli(EvalConfig, args=list(arguments), prog="arpo eval", description="Measure a policy on held-out tasks.")
    with ExitStack() as held:
        return _evaluate(config, held)


def _evaluate(config: EvalConfig, held: ExitStack) -> int:
    """Evaluates, and returns the exit status; `held` keeps other commands away from the files of answers."""
    _require_outputs(config)
    folder, env, words = config.resolved()
    find_device(config.device)
    sitting = Sitting.of(config, env, words)  # finds mistakes before the model is loaded
    without = Sitting.of(config, env, without_tools(env, words)) if config.closed_book else None
    if config.tools != "replay":
        require_ready(sitting.make_env)
    if config.tools != "live":
        require_answerable(sitting.make_env, Limits())
    other = _other(config.against, len(sitting.questions.starts))
    tasks = tasks_of(sitting) if config.judge is not None else None
    if config.judge is not None:
        require_judge(config)
    console, began = Console(highlight=False), time.perf_counter()
    is_told = tasks is not None and asks_secrets(tasks, sitting.questions.starts)
    if is_told:
        _warn_of_secrets(console, config)
    for why in sitting.questions.malformed:
        console.print(Text(f"Left out: {why}", style="yellow"))
    answers = begun(config, sitting, folder, config.records, held)  # first: without it, none is begun without tools
    closed = begun(config, without, folder, closed_file(config.records), held) if without is not None else Answers([])
    with Progress(console) as progress, ToolAnswers.of(config.tools, config.recording) as tools:
        asyncio.run(answers.complete(config, folder, sitting, tools, progress))
        if without is not None:
            _ask_without_tools(config, folder, without, closed, tools, progress)
    if tasks is not None and not is_told and has_secrets(tasks, [*answers.attempts, *closed.attempts, *(other or [])]):
        _warn_of_secrets(console, config)  # a source that draws its questions shows only now which they are
    failed: list[ConfigError] = []
    verdicts = partial(_judged, console, config, tasks, failed)
    attempts, judge = verdicts(answers.attempts, config.records)
    remembered, _ = verdicts(closed.attempts, closed_file(config.records))
    record = summary(config, env, words, attempts, time.perf_counter() - began)
    record |= {"prompt": config.prompting.prompt, "examples": config.prompting.examples}
    record |= {**sitting.questions.record, **judge, **of_closed_book(attempts, remembered)}
    record |= {name: count for name, count in answers.lost.items() if count}
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
    if failed:  # and even if it cannot be judged any more
        raise failed[0]
    return 0


def _require_outputs(config: EvalConfig) -> None:
    """Checks that the result and the answers can be written, before one of the files is begun.

    Raises:
        ConfigError: they cannot.
    """
    require_file(config.json, "--json")
    require_file(config.records, "--records")
    if config.records is not None:  # what lies beside them has longer names
        require_file(config.records.with_name(f"{config.records.name}.closed.settings"), "--records")
    for file in (config.records, closed_file(config.records) if config.closed_book else None):
        if file is not None and not config.resume:
            require_new(file)


def _warn_of_secrets(console: Console, config: EvalConfig) -> None:
    told = f"The judge at {config.judge} is sent questions that must not be passed on: it should be a server of your own."
    console.print(Text(told, style="yellow"))


def _ask_without_tools(
    config: EvalConfig, folder: Path, sitting: Sitting, answers: Answers, tools: ToolAnswers, progress: Progress
) -> None:
    """Asks questions without calls of tools; if that fails, the answers with them still count."""
    progress.note(f"asking {len(sitting.questions.starts):,} questions without tools")
    try:
        asyncio.run(answers.complete(config, folder, sitting, tools, progress))
    except Exception as error:  # noqa: BLE001  # some figures among others; the evaluation is done
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
    console: Console,
    config: EvalConfig,
    tasks: Any,
    failed: list[ConfigError],
    attempts: Sequence[Attempt],
    records: Path | None,
) -> tuple[list[Attempt], dict[str, str | int]]:
    """Returns answers with a judge's verdicts, and what the result says of these; without a judge the answers alone."""
    if config.judge is None or records is None or not attempts:
        return list(attempts), {}
    try:
        with saying(console, f"{len(attempts):,} answers are judged …") as say:
            found = judged(config, attempts, tasks, records, say)
    except ConfigError as error:
        failed.append(error)
        return list(attempts), {}
    if found.missing:
        told = f"The judge gave no verdict on {found.missing} of {len(attempts)} answers; its score leaves them out"
        console.print(Text(f"{told}: {found.failure}.", style="yellow"))
    if found.unkept:
        told = f"Verdicts could not be kept in {judged_file(records)}, and another call will ask for them again"
        console.print(Text(f"{told}: {found.unkept}", style="yellow"))
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
