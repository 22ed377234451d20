"""The built-in questions for a solver: the same as those of the search environment, with an expert that asks a reader."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tasks import Task
from ..tasks.world import QuestionSource


class ReadQuestions(QuestionSource):
    """The questions of `QuestionSource`; each page on the way is searched for, and the reader is asked for the fact on it.

    >>> from arpo_envs.tasks.world import load_world
    >>> source = ReadQuestions(hops=2, split="test", world=load_world(10))
    >>> task = source.get("city-2886242/country/capital")
    >>> for move in source.demonstrate(task, np.random.default_rng(0), perfect=True): print(*move)
    search Köln
    read country
    search Germany
    read capital
    answer Berlin
    """

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns an imperfect demonstrator's moves for a question of this source; see `Habits`.

        Args:
            task: a question of this source.
            rng: the only source of randomness.
            perfect: without bad habits.

        Returns:
            Moves ("search", query), each followed by ("read", the fact to look for), the last one ("answer", text).
        """
        facts = dict(zip(task.meta["queries"], task.meta["relations"], strict=True))
        moves: list[tuple[str, str]] = []
        for move, text in super().demonstrate(task, rng, perfect=perfect):
            moves.append((move, text))
            if move == "search":
                moves.append(("read", facts[text]))
        return moves

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by its arguments, as its parent does."""
        _, arguments = super().__reduce__()
        return _rebuilt, arguments


def _rebuilt(hops: int, split: str, world: Any, relations: Any, habits: Any) -> ReadQuestions:
    return ReadQuestions(hops=hops, split=split, world=world, relations=relations, habits=habits)
