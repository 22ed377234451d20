"""Sums to be entered and read: docs/add-an-environment.md."""

from collections.abc import Callable
from typing import Any

import numpy as np

from arpo_envs import ConfigError, Outcome, Score, Task, ToolEnv

from .tool import Ledger


class Sums:
    """What is the sum of these amounts?"""

    def __init__(self, largest: int) -> None:
        self.largest, self.name = largest, f"sums(up to {largest})"

    def draw(self, rng: np.random.Generator) -> Task:
        one, other = rng.integers(1, self.largest + 1, size=2)
        return self.get(f"{one}+{other}")

    def get(self, task_id: str) -> Task:
        parts = task_id.split("+")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ConfigError(f"{self.name} has no task {task_id!r}; ids look like 3+4.")
        return Task(task_id, f"Enter {parts[0]} and {parts[1]}. What is the sum?", (str(sum(map(int, parts))),))


def right(task: Task, outcome: Outcome) -> Score:
    """Pays for the right sum, and half of that for one that was not read from the ledger."""
    found = outcome.answer is not None and outcome.answer.strip() in task.answers
    return Score(float(found) * (1.0 if outcome.tools_used else 0.5), float(found))


class LedgerEnv(ToolEnv):
    """Keep a ledger and read it.

    Args:
        largest: amount.
        dialect: "tags" or "json".
        render_mode: None, "ansi", or "human", which prints the conversation as it goes.
    """

    def __init__(
        self,
        *,
        largest: int = 9,
        dialect: str = "tags",
        render_mode: str | None = None,
        tool: Any = None,
        reward: Callable[[Task, Outcome], Score] = right,
    ) -> None:
        super().__init__(
            tasks=Sums(largest),
            tools=[tool or Ledger()],
            reward=reward,
            dialect=dialect,
            max_turns=5,
            max_tool_calls=3,
            render_mode=render_mode,
        )
