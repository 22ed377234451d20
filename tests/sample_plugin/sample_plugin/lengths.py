"""Questions about lengths, answered with the converter."""

import numpy as np

from arpo_envs import Outcome, Score, Task, ToolEnv

from .tool import METRES, Converter


class Lengths:
    """How many metres are so many kilometres or miles?"""

    def __init__(self, largest: int, split: str) -> None:
        self.largest, self.odd = largest, split == "test"
        self.name = f"lengths(up to {largest}, {split})"

    def draw(self, rng: np.random.Generator) -> Task:
        number = 2 * int(rng.integers(1, self.largest // 2 + 1)) - self.odd
        return self.get(f"{number}-{('km', 'mile')[int(rng.integers(2))]}")

    def get(self, task_id: str) -> Task:
        number, unit = task_id.split("-")
        return Task(task_id, f"How many metres is a way of {number} {unit}?", (f"{int(number) * METRES[unit]:.6g}",))


def right(task: Task, outcome: Outcome) -> Score:
    """Pays 1 for the right answer."""
    found = float(outcome.answer is not None and outcome.answer.strip() in task.answers)
    return Score(found, found)


class LengthsEnv(ToolEnv):
    """Convert lengths to metres, with a tool that converts.

    Args:
        largest: number in a question.
        split: "train" asks for even numbers, "test" for odd ones.
        dialect: "tags" or "json".
        render_mode: None, "ansi", or "human", which prints the conversation as it goes.
    """

    def __init__(
        self, *, largest: int = 99, split: str = "train", dialect: str = "tags", render_mode: str | None = None
    ) -> None:
        super().__init__(
            tasks=Lengths(largest, split),
            tools=[Converter()],
            reward=right,
            guidance="Answer with a number of metres.",
            dialect=dialect,
            max_turns=4,
            render_mode=render_mode,
        )
