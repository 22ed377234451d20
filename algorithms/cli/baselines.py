"""What held-out questions of an environment earn before anything is learned: by an expert, by memory, by one fixed answer."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arpo_envs import Demonstrable, Task, TaskSource, members
from arpo_envs.tasks.mixture import MixtureTasks

from ..rollout import TextEnv
from .environments import arguments_of, env_maker

QUESTIONS, REMEMBERED = 32, 1000


@dataclass(frozen=True)
class Baselines:
    """Shares of right answers; None where nobody knows how to find out.

    Args:
        expert: of the demonstrator without bad habits, who calls the tools.
        closed_book: without tools, of the answer to the most similar of `REMEMBERED` training questions.
        majority: of the best single answer: exact where the tasks know it, otherwise of the most frequent one of these.
        questions: how many were asked.
    """

    expert: float | None
    closed_book: float | None
    majority: float | None
    questions: int


def baselines(name: str, options: Mapping[str, Any] | None = None) -> Baselines:
    """Asks `QUESTIONS` held-out questions of an environment; of a mixture, as many of each member, which count by weight.

    Args:
        name: its id, or a mixture ID=WEIGHT,ID=WEIGHT; "test" and "train" are its splits if it has any.
        options: other keyword arguments.

    Raises:
        ConfigError: no environment has that id.
        ArpoError: it cannot be asked, such as for want of a sandbox.
    """
    given = dict(options or {})
    env = env_maker(name, given)()
    try:
        source = members.TASKS.through(env)
        if isinstance(source, MixtureTasks):
            mixed = members.MIXED.of(env.unwrapped)
            return _weighted({one: baselines(one, member.spec.kwargs) for one, member in mixed.items()}, source.weights)
        if source is None or members.DIALECT.through(env) is None:  # nobody knows its tasks, or how to answer
            return Baselines(None, None, None, 0)
    finally:
        env.close()
    splits = [{**given, "split": split} if "split" in arguments_of(name) else given for split in ("test", "train")]
    env, training = (env_maker(name, each)() for each in splits)
    try:
        return _measured(env, members.TASKS.through(training))
    finally:
        env.close()
        training.close()


def _weighted(parts: Mapping[str, Baselines], weights: Mapping[str, float]) -> Baselines:
    """Returns the means; None for what is unknown of one part."""

    def mean(shares: Mapping[str, float | None]) -> float | None:
        known = {name: share for name, share in shares.items() if share is not None}
        if len(known) < len(shares):
            return None
        return sum(weights[name] * share for name, share in known.items()) / sum(weights.values())

    return Baselines(
        expert=mean({name: part.expert for name, part in parts.items()}),
        closed_book=mean({name: part.closed_book for name, part in parts.items()}),
        majority=mean({name: part.majority for name, part in parts.items()}),
        questions=sum(part.questions for part in parts.values()),
    )


def _measured(env: TextEnv, training: TaskSource) -> Baselines:
    source = members.TASKS.through(env)
    asked = drawn(source, QUESTIONS)
    expert = _expert(env, source, asked) if isinstance(source, Demonstrable) else None
    exact = members.MAJORITY_BASELINE.of(source)()
    remembered = [task for task in drawn(training, REMEMBERED) if task.answers]
    if not remembered:  # answers are judged, not compared
        return Baselines(expert, None, exact, QUESTIONS)
    usual = Counter(task.answers[0] for task in remembered).most_common(1)[0][0]
    recall = Memory(remembered).recall
    return Baselines(
        expert,
        closed_book=_answered(env, asked, lambda task: recall(task.question)),
        majority=_answered(env, asked, lambda task: usual) if exact is None else float(exact),
        questions=QUESTIONS,
    )


def drawn(source: TaskSource, count: int) -> list[Task]:
    """Returns the first tasks that a source draws with the seed 0."""
    rng = np.random.default_rng(0)
    return [source.draw(rng) for _ in range(count)]


class Memory:
    """Finds the most similar of questions seen before: the one with the rarest words in common.

    Args:
        tasks: what was seen.

    >>> seen = [Task("a", "What is the capital of Peru?", ("Lima",)), Task("b", "What currency has Chad?", ("CFA franc",))]
    >>> Memory(seen).recall("What is the capital of Kenya?")
    'Lima'
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._holding: dict[str, list[int]] = defaultdict(list)
        for number, task in enumerate(tasks):
            for word in _words(task.question):
                self._holding[word].append(number)

    def recall(self, question: str) -> str:
        """Returns the answer to the most similar question, to the first of several."""
        score: dict[int, float] = defaultdict(float)
        for word in sorted(_words(question) & self._holding.keys()):
            holding = self._holding[word]
            for number in holding:
                score[number] += math.log(1 + len(self._tasks) / len(holding))
        return self._tasks[max(score, key=lambda number: (score[number], -number), default=0)].answers[0]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def _answered(env: TextEnv, asked: Sequence[Task], answer: Callable[[Task], str]) -> float:
    """Returns the mean success of answers that are given at once."""
    total = 0.0
    for task in asked:
        env.reset(seed=0, options={"task": task.id})
        *_, info = env.step(members.DIALECT.through(env).answer(answer(task)))
        total += float(info["success"])
    return total / len(asked)


def _expert(env: TextEnv, source: Demonstrable, asked: Sequence[Task]) -> float:
    """Returns the mean success of the demonstrator, whose calls are really made."""
    dialect, total = members.DIALECT.through(env), 0.0
    specs = {spec.name: spec for spec in members.TOOL_SPECS.through(env)}
    for task in asked:
        env.reset(seed=0, options={"task": task.id})
        for move, text in source.demonstrate(task, np.random.default_rng(0), perfect=True):
            only = specs[move].text_parameter if move in specs else None
            arguments = {only: text} if only is not None else json.loads(text) if move in specs else None
            *_, info = env.step(dialect.answer(text) if arguments is None else dialect.call(move, arguments))
        total += float(info["success"])
    return total / len(asked)
