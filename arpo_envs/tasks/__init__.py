"""Where questions come from: a `Task` is one of them, a `TaskSource` a fixed, indexable set.

A source is immutable and shared between clones. Everything that learns from a source's structure
(the embedded policy's tokenizer and its demonstrations) goes through `lexicon` and `demonstrate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Task:
    """One question with everything needed to score an answer.

    Args:
        id: stable name, unique within its source.
        question: what the model is asked.
        answers: accepted answers, the canonical one first.
        meta: anything else (hops, entities on the path, relation, …); treated as read-only.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """Returns a number of `meta`, such as how few calls are needed; -1 if there is none."""
        value = self.meta.get(name)
        return -1 if value is None else int(value)


@runtime_checkable
class TaskSource(Protocol):
    """A fixed set of tasks.

    It may name modules that would tell its answers, as a tuple `secrets`: the conformance kit checks that no tool of an
    environment that uses it lets a model's code import them.
    """

    name: str

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a task drawn with `rng`, in the source's own distribution."""
        ...

    def get(self, task_id: str) -> Task:
        """Returns the task with that id; raises `ConfigError` for an unknown one."""
        ...


@runtime_checkable
class Demonstrable(Protocol):
    """A source from which a small policy can be cold-started."""

    def lexicon(self) -> Sequence[str]:
        """Names worth one token each, held-out ones included."""
        ...

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns a demonstrator's moves, each ("tool name" or "answer", text); bad habits included unless `perfect`.

        The text for a tool is its single text, or its arguments as JSON if it has no required string.
        """
        ...
