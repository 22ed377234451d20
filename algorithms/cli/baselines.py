"""What held-out questions of an environment earn before anything is learned: by an expert, by memory, by one fixed answer."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from arpo_envs import Demonstrable, Outcome, Task, TaskSource, ToolEnv, members

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
    """

    expert: float | None
    closed_book: float | None
    majority: float | None


def baselines(name: str) -> Baselines:
    """Asks `QUESTIONS` held-out questions of an environment.

    Args:
        name: its id; "test" and "train" are its splits if it has any.

    Raises:
        ConfigError: no environment has that id.
        ArpoError: it cannot be asked, such as for want of a sandbox.
    """
    splits = [{"split": split} if "split" in arguments_of(name) else {} for split in ("test", "train")]
    env, training = (env_maker(name, options)() for options in splits)
    try:
        base = env.unwrapped
        if not isinstance(base, ToolEnv):  # nobody knows its tasks, and what an answer to one would earn
            return Baselines(None, None, None)
        asked = drawn(base.tasks, QUESTIONS)
        expert = _expert(env, base.tasks, asked) if isinstance(base.tasks, Demonstrable) else None
        exact = members.MAJORITY_BASELINE.of(base.tasks)()
        remembered = [task for task in drawn(members.TASKS.through(training), REMEMBERED) if task.answers]
        if not remembered:  # answers are judged, not compared
            return Baselines(expert, None, exact)
        usual = Counter(task.answers[0] for task in remembered).most_common(1)[0][0]
        recall = Memory(remembered).recall
        return Baselines(
            expert,
            closed_book=_answered(base, asked, lambda task: recall(task.question)),
            majority=_answered(base, asked, lambda task: usual) if exact is None else float(exact),
        )
    finally:
        env.close()
        training.close()


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


def _answered(base: ToolEnv, asked: Sequence[Task], answer: Callable[[Task], str]) -> float:
    """Returns the mean success of answers that are given at once."""
    return float(np.mean([base.reward(task, Outcome(answer(task), True, frozenset())).success for task in asked]))


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
