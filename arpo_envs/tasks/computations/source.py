"""Generated computational questions of graded difficulty, with exact answers.

A question defines a number x and continues from it, so it is naturally worked out over several cells
that share a namespace. Its split follows from a hash of what defines x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import numpy as np

from ...errors import ConfigError, unknown_name
from .. import Task
from ..world import Habits
from .algebra import FAMILIES as _ALGEBRA
from .data import FAMILIES as _DATA
from .families import SMALL, Core, Family, Step, Value, between, difficulty_of, follow
from .numbers import FAMILIES as _NUMBERS

FAMILIES: Mapping[str, Family] = MappingProxyType({**_NUMBERS, **_ALGEBRA, **_DATA})
"""Every family by its name."""

_STEPS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}
"""How many steps follow x."""

_SHARES = {"train": range(60), "validation": range(60, 75), "test": range(75, 100)}
_INDICES = 1 << 32


@dataclass(frozen=True)
class _Problem:
    """A question with the cells that work it out."""

    core: Core
    steps: tuple[Step, ...]

    @property
    def question(self) -> str:
        *middle, last = self.steps
        lets = [
            f"Let x be {self.core.phrase}.",
            *(f"Let {name} be {step.phrase}." for name, step in zip("yz", middle, strict=False)),
        ]
        return f"{self.core.before}{' '.join(lets)} What is {last.phrase}?"

    @property
    def cells(self) -> tuple[str, ...]:
        *middle, last = self.steps
        joint = "\n" if "\n" in self.core.code else "; "
        cells = [f"{self.core.code}{joint}{_shown('x', self.core.value)}"]
        cells += [f"{name} = {step.code}; {name}" for name, step in zip("yz", middle, strict=False)]
        return (*cells, _shown(last.code, last.value))

    @property
    def values(self) -> tuple[Value, ...]:
        return (self.core.value, *(step.value for step in self.steps))


def _shown(expression: str, value: Value) -> str:
    """Returns the end of a cell, which shows a value as an answer writes it; a notebook echoes integers unchanged."""
    return expression if isinstance(value, int) else f"print({expression})"


class ComputationSource:
    """Computational questions: a `TaskSource` that is also `Demonstrable`.

    At difficulty 1 all numbers except constants lie in 10 to 999, and two short cells suffice: what a policy of a
    million parameters can learn. Higher ones have longer numbers and more steps, and need better algorithms; at 4 and 5
    some answers are fractions, dates or strings.

    Args:
        difficulty: 1 to 5.
        split: "train", "validation" or "test"; no quantity x is defined in two of them.
        families: names of the families that may occur, each equally often; None for all of `FAMILIES`.
        habits: how `demonstrate` behaves.

    Raises:
        ConfigError: an argument is unknown or out of range.

    >>> source = ComputationSource(split="train", families=["matrices"])
    >>> task = source.draw(np.random.default_rng(0))
    >>> source.get(task.id) == task, task.meta["family"], task.meta["answer_type"]
    (True, 'matrices', 'number')
    """

    secrets = ("arpo_envs",)

    def __init__(
        self,
        *,
        difficulty: int = 1,
        split: str = "train",
        families: Sequence[str] | None = None,
        habits: Habits | None = None,
    ) -> None:
        difficulty = difficulty_of(difficulty)
        if split not in _SHARES:
            raise unknown_name("split", split, _SHARES)
        if isinstance(families, str):
            raise ConfigError(f"families is a list of names, got the string {families!r}. Write [{families!r}].")
        for name in families or ():
            if name not in FAMILIES:
                raise unknown_name("family", name, FAMILIES)
        if families is not None and not families:
            raise ConfigError("families is empty: there would be no questions. Leave it out for all of them.")
        self.difficulty, self.split = difficulty, split
        self.families = tuple(name for name in FAMILIES if families is None or name in families)
        self.habits = habits or Habits()
        only = "" if len(self.families) == len(FAMILIES) else f", only {', '.join(self.families)}"
        self.name = f"computations(difficulty {difficulty}, {split}{only})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by its arguments."""
        return _rebuilt, (self.difficulty, self.split, self.families, self.habits)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ComputationSource":
        """Returns itself: nothing in it ever changes."""
        return self

    # --- questions --------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a question: first the family, uniformly, then its numbers."""
        family = self.families[int(rng.random() * len(self.families))]
        while True:
            index = int(rng.random() * _INDICES)
            generator = _generator(family, self.difficulty, index)
            core = FAMILIES[family](generator, self.difficulty)
            if _bucket(family, core) in _SHARES[self.split]:
                return self._task(family, index, core, generator)

    def get(self, task_id: str) -> Task:
        """Returns the question with that id, such as "primes-1-77".

        Raises:
            ConfigError: no question of this source has that id.
        """
        family, _, rest = task_id.partition("-")
        difficulty, _, index = rest.partition("-")
        if family in self.families and difficulty == str(self.difficulty) and index.isascii() and index.isdigit():
            number = int(index)
            generator = _generator(family, self.difficulty, number)
            core = FAMILIES[family](generator, self.difficulty) if str(number) == index and number < _INDICES else None
            if core is not None and _bucket(family, core) in _SHARES[self.split]:
                return self._task(family, number, core, generator)
        example = self.draw(np.random.default_rng(0)).id
        raise ConfigError(
            f"{self.name} has no question {task_id!r}: it belongs to another difficulty, split or family, or is not an id. "
            f"An id it has: {example!r}."
        )

    def _task(self, family: str, index: int, core: Core, rng: np.random.Generator) -> Task:
        problem = _Problem(core, _steps(core, rng, self.difficulty))
        values = problem.values
        answer = str(values[-1])
        numbers: dict[str, Any] = dict(core.numbers)
        numbers["steps"] = tuple(tuple(step.numbers.values()) for step in problem.steps)
        meta = {
            "family": family,
            "difficulty": self.difficulty,
            "parameters": numbers,
            "answer_type": _answer_type(values[-1]),
            "cells": problem.cells,
            "values": tuple(str(value) for value in values),
        }
        return Task(f"{family}-{self.difficulty}-{index}", problem.question, (answer,), meta)

    # --- demonstrations ---------------------------------------------------------------------------

    def lexicon(self) -> Sequence[str]:
        """Returns the numbers 10 to 999; smaller ones are constants in questions and code."""
        return [str(number) for number in SMALL]

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns an imperfect demonstrator's moves for a question of this source.

        The shares are those of `Habits`: "stops_early" answers with the first value it sees, "repeats" computes that
        twice and then does so, "guesses" answers a number at once, and "wrong_fact" computes everything and then
        answers with the value before the last one.

        Args:
            task: a question of this source.
            rng: the only source of randomness.
            perfect: without bad habits.

        Returns:
            Moves ("python", code), the last one ("answer", text).
        """
        cells = [("python", code) for code in task.meta["cells"]]
        values: tuple[str, ...] = task.meta["values"]
        habit = "good" if perfect else self.habits.draw(rng)
        if habit == "good":
            return [*cells, ("answer", values[-1])]
        if habit == "stops_early":
            return [cells[0], ("answer", values[0])]
        if habit == "repeats":
            return [cells[0], cells[0], ("answer", values[0])]
        if habit == "wrong_fact":
            return [*cells, ("answer", values[-2])]
        return [("answer", str(between(rng, SMALL.start, SMALL.stop - 1)))]


def _generator(family: str, difficulty: int, index: int) -> np.random.Generator:
    """Returns the generator from which a question is made: a function of its id."""
    name = int.from_bytes(blake2b(family.encode(), digest_size=4).digest(), "big")
    return np.random.Generator(np.random.PCG64([index, difficulty, name]))


def _bucket(family: str, core: Core) -> int:
    """Returns 0 to 99, the same for every question with the same definition of x."""
    defined = f"{family}|{core.before}|{core.phrase}"
    return int.from_bytes(blake2b(defined.encode(), digest_size=8).digest(), "big") % 100


def _steps(core: Core, rng: np.random.Generator, difficulty: int) -> tuple[Step, ...]:
    if core.finish is not None:
        return (core.finish,)
    steps: list[Step] = []
    value = core.value
    for number, name in zip(range(_STEPS[difficulty]), "xyz", strict=False):
        assert isinstance(value, int), "a core without a finish has an integer"
        steps.append(follow(rng, difficulty, name, value, last=number == _STEPS[difficulty] - 1))
        value = steps[-1].value
    return tuple(steps)


def _answer_type(value: Value) -> str:
    if isinstance(value, Fraction):
        return "math"
    return "number" if isinstance(value, int) else "text"


def _rebuilt(difficulty: int, split: str, families: Sequence[str], habits: Habits) -> ComputationSource:
    return ComputationSource(difficulty=difficulty, split=split, families=families, habits=habits)
