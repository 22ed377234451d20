"""What a tracker is, and sending one step to several."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records one step."""
        ...

    def summary(self, values: Mapping[str, Any]) -> None:
        """Records results of the whole run: held-out evaluations."""
        ...

    def close(self) -> None:
        """Says that nothing more comes."""
        ...


def log_all(trackers: Sequence[Tracker], step: int, metrics: Mapping[str, float]) -> None:
    """Sends one step everywhere."""
    for tracker in trackers:
        tracker.log(step, metrics)
