"""`arpo eval`: what a policy reaches on held-out tasks, with intervals, and how it compares with another evaluation."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from arpo_envs import ConfigError

from ..evaluation import Attempt, AttemptFile, compared, read_attempts
from ..models.devices import find_device
from ..rollout import Limits
from ..tree import RolloutTree
from .answering import Answers, settings_of
from .asked import Asked, asked
from .environments import env_maker
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
    questions = asked(config, env, words)
    made = env_maker(env, dict(questions.options))  # finds mistakes before the model is loaded
    if config.tools != "live":
        require_answerable(made, Limits())
    other = _other(config.against, len(questions.starts))
    tasks = tasks_of(made, questions.options) if config.judge is not None else None
    if config.judge is not None:
        require_judge(config)
    answers = _begun(config, env, words, questions, folder)
    console = Console(highlight=False)
    for reason in questions.malformed:
        console.print(Text(f"Left out: {reason}", style="yellow"))
    began = time.perf_counter()
    with Progress(console) as progress, ToolAnswers.of(config.tools, config.recording) as tools:
        asyncio.run(answers.complete(config, folder, questions, made, tools, progress))
    attempts, verdicts = _judged(console, config, answers.attempts, tasks, config.records)
    record = {**summary(config, env, words, attempts, time.perf_counter() - began), **questions.record, **verdicts}
    _transcripts(console, answers.trees, config.show)
    console.print(table(record))
    if told := tools.told():
        console.print(Text(told, style="dim"))
    try:
        if other is not None:
            theirs, _ = _judged(console, config, other, tasks, config.against)
            _compare(console, config, attempts, theirs, record)
    finally:  # the result stands even if it cannot be compared
        if config.json is not None:
            write_json(config.json, record)
            console.print(Text(f"Written to {config.json}", style="dim"))
    return 0


def _begun(config: EvalConfig, env: str, words: Sequence[str], questions: Asked, folder: Path) -> Answers:
    """Returns the answers that an earlier call has written, or begins their file; none if they are not kept."""
    if config.records is None:
        return Answers([])
    file = AttemptFile(config.records, len(questions.starts), config.samples, config.block)
    settings = settings_of(config, env, words, questions, folder)
    if config.resume:
        return Answers(file.resume(settings), file)
    file.begin(settings)
    return Answers([], file)


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
    console: Console, config: EvalConfig, attempts: Sequence[Attempt], tasks: Any, records: Path | None
) -> tuple[list[Attempt], dict[str, str | int]]:
    """Returns answers with a judge's verdicts, and what the result says of these; without a judge the answers alone."""
    if config.judge is None or records is None:
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
