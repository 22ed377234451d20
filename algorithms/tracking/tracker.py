"""What a tracker is, what it may have besides, and sending something to several of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from arpo_envs import members

Rows = Sequence[Mapping[str, Any]]
"""The rows of a table: plain values by column."""


class Tracker(Protocol):
    """Records the metrics of a run."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records one step."""
        ...

    def summary(self, values: Mapping[str, Any]) -> None:
        """Records results of the whole run: held-out evaluations."""
        ...

    def close(self) -> None:
        """Says that nothing more comes."""
        ...


class TrackerWarning(UserWarning):
    """Something that the user of a tracker should know, though it works."""


def _no_table(name: str, rows: Rows) -> None:
    """Stands for a tracker that has no tables."""


def _no_file(path: Path) -> None:
    """Stands for a tracker that keeps no files."""


TABLE: members.Member[Callable[[str, Rows], None]] = members.Member("table", _no_table, method=True)
"""Records a table, given its name and rows; it belongs to the step that was recorded last."""
FILE: members.Member[Callable[[Path], None]] = members.Member("file", _no_file, method=True)
"""Keeps a copy of a file."""
LATER: members.Member[str] = members.Member("later", "")
"""How people can send later what a tracker has kept but could not send, as a sentence without its full stop."""


def log_all(trackers: Sequence[Tracker], step: int, metrics: Mapping[str, float]) -> None:
    """Sends one step to all trackers."""
    for tracker in trackers:
        tracker.log(step, metrics)
