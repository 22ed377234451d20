"""`arpo eval --judge`: a language model's verdict on each answer, beside the scores that are computed."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from arpo_envs import ConfigError, members

from ..evaluation import Attempt, Claim, Judge, JudgedFile, Judgement, ServedJudge
from ..rollout import Start
from .answering import Sitting

KEY = "ARPO_JUDGE_KEY"
"""The environment variable with the judge's key."""
SCORE = "judge"


class Judging(Protocol):
    """The options of a judge."""

    @property
    def judge(self) -> str | None:
        """URL of its server."""
        ...

    @property
    def judge_model(self) -> str | None:
        """Its name there."""
        ...


@dataclass(frozen=True)
class Judged:
    """Answers with a judge's verdicts among their scores.

    Args:
        attempts: all of them; one without a verdict has no such score.
        judge: its name.
        missing: how many answers have no verdict, though they were judged.
        failure: why one of them has none; "" if all have one.
        unkept: why verdicts could not be kept; "" if all were.
    """

    attempts: list[Attempt]
    judge: str
    missing: int
    failure: str = ""
    unkept: str = ""

    @property
    def record(self) -> dict[str, str | int]:
        """What the result says of it."""
        return {"judge_model": self.judge, "judge_missing": self.missing}


def require_judge(judging: Judging) -> None:
    """Tries a judge before the long work.

    Raises:
        ConfigError: it cannot be reached, or is wrong where the verdict is known.
    """

    async def tried() -> None:
        judge = _judge(judging)
        try:
            await judge.require_sense()
        finally:
            await judge.close()

    asyncio.run(tried())


def judged(
    judging: Judging, attempts: Sequence[Attempt], tasks: Any, records: Path, say: Callable[[str], None] = lambda text: None
) -> Judged:
    """Returns answers with the verdicts of a judge, which are kept beside the answers, in RECORDS.judge.

    Args:
        judging: the options.
        attempts: answers.
        tasks: where their questions come from.
        records: the file of the answers.
        say: is told how many answers have a verdict.

    Raises:
        ConfigError: the judge cannot be reached any more, or its file cannot be read.
    """

    async def ask_all() -> Judged:
        judge = _judge(judging)
        try:
            return await with_verdicts(judge, attempts, tasks, JudgedFile(judged_file(records), judge.name), say)
        finally:
            await judge.close()

    return asyncio.run(ask_all())


async def with_verdicts(
    judge: Judge, attempts: Sequence[Attempt], tasks: Any, file: JudgedFile, say: Callable[[str], None] = lambda text: None
) -> Judged:
    """Asks a judge for the verdicts that a file does not have yet; see `judged`."""
    asked = {at: task for at, one in enumerate(attempts) if (task := _task(one, tasks)) is not None}
    claims = {at: claim for at, task in asked.items() if (claim := _claim(task, attempts[at])) is not None}
    secret = {claim for at, claim in claims.items() if is_secret(tasks, asked[at])}
    found: dict[Claim, Judgement] = {}
    unkept: list[str] = []

    async def ask(claim: Claim) -> None:
        try:
            found[claim] = await judge(claim)
        except ConfigError as error:  # it was tried before: what others are worth must not depend on this
            found[claim] = Judgement(None, "", str(error))
        try:
            file.add(claim, found[claim], secret=claim in secret)
        except OSError as error:  # it counts all the same; another time it is asked again
            unkept.append(str(error))
        say(f"{len(found):,} of {len(set(claims.values())):,} different answers judged")

    async with asyncio.TaskGroup() as group:
        for claim in dict.fromkeys(claims.values()):
            known = file.get(claim)
            if known is not None:
                found[claim] = known
            else:
                group.create_task(ask(claim))
    without = [found[claim].failure for claim in claims.values() if found[claim].right is None]
    scores = {at: found[claim].right for at, claim in claims.items()}
    scores |= {at: False for at in asked if at not in claims}
    given = [_scored(one, scores.get(at)) for at, one in enumerate(attempts)]
    return Judged(given, judge.name, len(without), without[0] if without else "", unkept[0] if unkept else "")


def asks_secrets(tasks: Any, starts: Sequence[Start]) -> bool:
    """Whether one of the questions must not be passed on."""
    named = [start.options["task"] for start in starts if start.options and "task" in start.options]
    return any(is_secret(tasks, tasks.get(task)) for task in named)


def has_secrets(tasks: Any, attempts: Sequence[Attempt]) -> bool:
    """Whether a judge is asked about a question that must not be passed on."""
    return any(is_secret(tasks, task) for one in attempts if (task := _task(one, tasks)) is not None)


def is_secret(tasks: Any, task: Any) -> bool:
    """Whether a question must not be passed on, as far as its source says."""
    return bool(members.PROVENANCE.of(tasks)(task).get("gated"))


def tasks_of(sitting: Sitting) -> Any:
    """Returns where the questions of an evaluation come from.

    Raises:
        ConfigError: nobody says, or nothing is read as an answer.
    """
    env = sitting.make_env()
    tasks, dialect = members.TASKS.through(env), members.DIALECT.through(env)
    env.close()
    if tasks is None:
        raise ConfigError("A judge compares with the accepted answers, and this environment does not say what it accepts.")
    if dialect is None:
        raise ConfigError("A judge reads answers, and this environment has no dialect that finds one in an action.")
    return tasks


def judged_file(records: Path) -> Path:
    """Returns the file with the verdicts on the answers of an evaluation."""
    return records.with_name(f"{records.name}.judge")


def _judge(judging: Judging) -> ServedJudge:
    assert judging.judge is not None
    return ServedJudge(judging.judge, judging.judge_model, key=os.environ.get(KEY) or None)


def _task(one: Attempt, tasks: Any) -> Any | None:
    """Returns the task of a rollout; None if it does not count, or nobody knows which answers are accepted."""
    if not one.counts:
        return None
    try:
        task = tasks.get(one.id)
    except ConfigError:  # a source that can draw questions and not find them again
        return None
    return task if task.answers else None


def _claim(task: Any, one: Attempt) -> Claim | None:
    """Returns what is to be judged of an answer; None if there is none."""
    return None if one.answer is None else Claim(task.question, tuple(task.answers), one.answer)


def _scored(one: Attempt, right: bool | None) -> Attempt:
    return one if right is None else replace(one, scores={**one.scores, SCORE: float(right)})
