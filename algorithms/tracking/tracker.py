"""What a tracker is, and sending a step to several of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


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


def log_all(trackers: Sequence[Tracker], step: int, metrics: Mapping[str, float]) -> None:
    """Sends one step to all trackers."""
    for tracker in trackers:
        tracker.log(step, metrics)
