"""A run's own metrics file, and cutting it back to the step from which the run resumes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..durable import sync
from ..metrics import as_json


@dataclass(frozen=True)
class JsonlTracker:
    """One JSON object per line and step, null for NaN and infinity; a resumed run continues in the same file.

    Args:
        path: of the file.
    """

    path: Path

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **as_json(metrics)}, allow_nan=False) + "\n")

    def summary(self, values: Mapping[str, Any]) -> None:
        """Does nothing: a run's folder has separate files for that."""

    def close(self) -> None:
        """Nothing is held open."""


def keep_steps_before(path: Path, step: int) -> None:
    """Drops the lines from step `step` on: a resumed run writes them again.

    Args:
        path: of a JSONL file whose lines have a "step"; may be missing.
        step: the first step to drop.
    """
    if not path.is_file():
        return
    # as bytes: a kill may have cut a character in two, and a string may contain a line break that only Unicode knows
    with path.open("r+b") as lines:  # in place: on a full disk there is no room for a copy
        end = 0
        for line in lines:
            if not _is_before(line, step):
                break
            end += len(line)
        lines.truncate(end)
    sync(path)


def _is_before(line: bytes, step: int) -> bool:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        return False  # a line cut off by a kill, or by a full disk and continued later
    return int(record.get("step", 0)) < step
