"""`arpo eval --judge`: a language model's verdict on each answer, beside the scores that are computed."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from arpo_envs import ConfigError, members

from ..evaluation import Attempt, Claim, Judge, JudgedFile, Judgement, ServedJudge
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
    """

    attempts: list[Attempt]
    judge: str
    missing: int
    failure: str = ""

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


def judged(judging: Judging, attempts: Sequence[Attempt], tasks: Any, records: Path) -> Judged:
    """Returns answers with the verdicts of a judge, which are kept beside the answers, in RECORDS.judge.

    Args:
        judging: the options.
        attempts: answers.
        tasks: where their questions come from.
        records: the file of the answers.

    Raises:
        ConfigError: the judge refuses, or its file cannot be read.
    """

    async def ask_all() -> Judged:
        judge = _judge(judging)
        try:
            return await with_verdicts(judge, attempts, tasks, JudgedFile(judged_file(records), judge.name))
        finally:
            await judge.close()

    return asyncio.run(ask_all())


async def with_verdicts(judge: Judge, attempts: Sequence[Attempt], tasks: Any, file: JudgedFile) -> Judged:
    """Asks a judge for the verdicts that a file does not have yet; see `judged`."""
    claims = {at: claim for at, one in enumerate(attempts) if (claim := _claim(one, tasks)) is not None}
    found: dict[Claim, Judgement] = {}

    async def ask(claim: Claim) -> None:
        found[claim] = await judge(claim)
        file.add(claim, found[claim])

    try:
        async with asyncio.TaskGroup() as group:
            for claim in dict.fromkeys(claims.values()):
                known = file.get(claim)
                if known is not None:
                    found[claim] = known
                else:
                    group.create_task(ask(claim))
    except* ConfigError as group_error:
        raise group_error.exceptions[0] from None
    without = [found[claim].failure for claim in claims.values() if found[claim].right is None]
    scores = {at: found[claim].right for at, claim in claims.items()}
    scores |= {at: False for at, one in enumerate(attempts) if one.counts and one.answer is None}
    return Judged([_scored(one, scores.get(at)) for at, one in enumerate(attempts)], judge.name, len(without), *without[:1])


def tasks_of(sitting: Sitting) -> Any:
    """Returns where the questions of an evaluation come from.

    Raises:
        ConfigError: nobody says.
    """
    env = sitting.make_env()
    tasks = members.TASKS.through(env)
    env.close()
    if tasks is None:
        raise ConfigError("A judge compares with the accepted answers, and this environment does not say what it accepts.")
    return tasks


def judged_file(records: Path) -> Path:
    """Returns the file with the verdicts on the answers of an evaluation."""
    return records.with_name(f"{records.name}.judge")


def _judge(judging: Judging) -> ServedJudge:
    assert judging.judge is not None
    return ServedJudge(judging.judge, judging.judge_model, key=os.environ.get(KEY) or None)


def _claim(one: Attempt, tasks: Any) -> Claim | None:
    """Returns what is to be judged of an answer; None if there is nothing."""
    if not one.counts or one.answer is None:
        return None
    try:
        task = tasks.get(one.id)
    except ConfigError:  # a source that can draw questions and not find them again
        return None
    return Claim(task.question, tuple(task.answers), one.answer) if task.answers else None


def _scored(one: Attempt, right: bool | None) -> Attempt:
    return one if right is None else replace(one, scores={**one.scores, SCORE: float(right)})
