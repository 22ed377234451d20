"""Wraps any tracker so that its failure does not harm the run."""

from collections.abc import Callable, Mapping
from typing import Any

from ..rollout import reason
from .tracker import Tracker


class Guarded:
    """A tracker that may fail without harm: its first failure is reported, and from then on it is not used.

    Args:
        name: of the tracker, for people.
        make: returns the tracker; this may fail too.
        tell: called with the message.

    >>> def broken() -> Tracker:
    ...     raise OSError("no network")
    >>> tracker = Guarded("wandb", broken, print)
    wandb failed and is not used any more: OSError: no network. metrics.jsonl has everything.
    >>> tracker.log(0, {"reward": 1.0})
    """

    def __init__(self, name: str, make: Callable[[], Tracker], tell: Callable[[str], None]) -> None:
        self._name, self._tell = name, tell
        self._tracker: Tracker | None = None
        self._try(lambda: setattr(self, "_tracker", make()))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records one step, if it can."""
        self._with(lambda tracker: tracker.log(step, metrics))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Records held-out results, if it can."""
        self._with(lambda tracker: tracker.summary(values))

    def close(self) -> None:
        """Says that nothing more comes."""
        self._with(lambda tracker: tracker.close())
        self._tracker = None

    def _with(self, do: Callable[[Tracker], None]) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: do(tracker))

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it raises, the run matters more
            self._tracker = None
            self._tell(f"{self._name} failed and is not used any more: {reason(error)}. metrics.jsonl has everything.")
