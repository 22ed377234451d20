"""Judging an answer by the kind of answer its task asks for.

`Task.meta["answer_type"]` chooses the checker; `Task.meta["scorer"]` brings a source's own.
"""

import math
from collections.abc import Callable, Mapping

from ..errors import ConfigError, unknown_name
from ..tasks import Task
from .answers import compare
from .choices import judge_choice
from .mathematics.judge import judge_math
from .quantities import judge_number
from .verdict import Verdict
from .worker import Overrun, Raised, shared_worker

_MODULES = ("arpo_envs.tasks",)
SCORER_SECONDS = 5.0
"""Processor time for one call of a source's own scorer."""


def check(task: Task, answer: str) -> Verdict:
    """Returns the judgement of an answer, made by the checker the task asks for.

    Args:
        task: its `meta["answer_type"]` is "text" (exact match and token F1; the default), "math" (mathematical
            equality), "number" (with "tolerance", "relative" and units) or "choice" (with "options"). Or its
            `meta["scorer"]` names a function, "package.module:name", that takes the task and the answer and returns a
            score in [0, 1], 1 for success; it is imported and run in a confined process under a time limit.
        answer: what the model answered.

    Raises:
        ConfigError: the answer type is unknown, the task contradicts it, or the scorer is not such a function.

    >>> task = Task("t", "What is half of 3?", ("3/2",), {"answer_type": "math"})
    >>> check(task, "1.5"), check(task, "15").accuracy
    (Verdict(success=True, accuracy=1.0, note=''), 0.0)
    """
    scorer = task.meta.get("scorer")
    if scorer is not None:
        return _judged_by(scorer, task, answer)
    kind = task.meta.get("answer_type", "text")
    if not isinstance(kind, str) or kind not in CHECKERS:
        raise unknown_name("answer type", str(kind), CHECKERS)
    return CHECKERS[kind](task, answer)


def _text(task: Task, answer: str) -> Verdict:
    return Verdict(*compare(answer, task.answers))


def _math(task: Task, answer: str) -> Verdict:
    return judge_math(answer, task.answers, task.question)


def _number(task: Task, answer: str) -> Verdict:
    return judge_number(answer, task.answers, task.meta, task.question)


def _choice(task: Task, answer: str) -> Verdict:
    return judge_choice(answer, task.answers, task.meta)


CHECKERS: Mapping[str, Callable[[Task, str], Verdict]] = {"text": _text, "math": _math, "number": _number, "choice": _choice}
"""The checkers by answer type."""


def _judged_by(scorer: object, task: Task, answer: str) -> Verdict:
    if (
        not isinstance(scorer, str)
        or not all(part.isidentifier() for part in scorer.replace(":", ".", 1).split("."))
        or ":" not in scorer
    ):
        raise ConfigError(f"A task's 'scorer' must be a string such as 'package.module:function', got {scorer!r:.60}.")
    worker = shared_worker(scorer, _MODULES)
    try:
        score = worker.call((task, answer), seconds=SCORER_SECONDS)
    except Overrun as error:
        return Verdict.of(False, str(error))
    except Raised as error:
        _blame(scorer, task, error)
        return Verdict.of(False, f"the scorer raised {error}"[:200])
    if isinstance(score, bool) or not isinstance(score, int | float) or not (math.isfinite(score) and 0 <= score <= 1):
        raise ConfigError(f"The scorer {scorer!r} must return a number in [0, 1], got {score!r:.40}.")
    return Verdict(score >= 1, float(score))


def _blame(scorer: str, task: Task, error: Raised) -> None:
    """Raises if the scorer fails on the task's own answer too: then the model is not to blame."""
    if not task.answers:
        return
    try:
        shared_worker(scorer, _MODULES).call((task, task.answers[0]), seconds=SCORER_SECONDS)
    except Raised as own:
        raise ConfigError(f"The scorer {scorer!r} raised on the task's own answer {task.answers[0]!r:.60}: {own}") from error
    except Overrun:
        return
