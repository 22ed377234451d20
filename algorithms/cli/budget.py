"""How many tool calls a run may make before it ends."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class CallBudget:
    """Counts the tool calls of a run.

    Args:
        limit: how many to make; None for any number.
        spent: how many were made.
    """

    limit: int | None
    spent: float = 0.0

    @classmethod
    def of(cls, limit: int | None, metrics: Path) -> "CallBudget":
        """Returns the budget of a run, less what its steps so far have spent.

        Args:
            limit: see the class.
            metrics: the run's metrics.jsonl; may be missing.
        """
        return cls(limit, sum(line.get("tool_calls", 0.0) for line in logged(metrics)))

    @property
    def is_spent(self) -> bool:
        """Whether the run should end."""
        return self.limit is not None and self.spent >= self.limit

    def spend(self, metrics: Mapping[str, float]) -> None:
        """Counts the calls of a step."""
        self.spent += metrics["tool_calls"]


def logged(metrics: Path) -> Iterator[dict[str, Any]]:
    """Yields the metrics of a run's steps; of a run that is under way, without a line that is not whole yet.

    Args:
        metrics: the run's metrics.jsonl; may be missing.
    """
    if metrics.is_file():
        for line in metrics.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)
