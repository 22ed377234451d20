"""What a run has learned but not saved yet: whatever ends the run, its last whole step is saved first."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..checkpoint import Unsaved
from ..cluster import Lost, RankedLearner
from ..learner import Diverged, TorchLearner
from .signals import BrokenOff

IN_A_ROW = 3
"""Checkpoints that fail one after another; then the run ends, because ever more of it would be lost."""


class Writer(Protocol):
    """Writes checkpoints; see `checkpoints.Checkpoints`."""

    @property
    def is_writing(self) -> bool:
        """Whether one is being written."""
        ...

    def write(self, step: int) -> None:
        """Writes one."""
        ...

    def begin(self, step: int) -> None:
        """Begins to write one."""
        ...

    def wait(self) -> None:
        """Waits for the one that was begun, and raises what went wrong with it."""
        ...


class Kept:
    """Keeps track of how many steps the weights have taken, and whether they are saved.

    Args:
        writer: saves the weights as those after some number of steps.
        run: its folder, for messages.
        saved: how many steps are already saved; None if nothing is.
        is_updating: whether the weights are being changed at this moment, in another thread.
        tell: is told, in a line, of checkpoints without which the run goes on.
    """

    def __init__(
        self,
        writer: Writer,
        run: Path,
        saved: int | None,
        is_updating: Callable[[], bool] = lambda: False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._writer, self._run, self._saved, self._is_updating, self._tell = writer, run, saved, is_updating, tell
        self._at: int | None = saved or 0
        """How many steps the weights have taken, all of them recorded; None in the middle of one."""
        self._begun: int | None = None
        """How many steps there are in what is being written."""
        self._missed: list[str] = []
        """What went wrong with the checkpoints since the last good one."""
        self._seconds = 0.0

    def begin(self) -> None:
        """Begins to save the weights, unless that is already done.

        If there is no room for them, the run goes on, but not for ever.

        Raises:
            Unsaved: as for `look`.
        """
        began = time.perf_counter()
        self._settle()
        self._require_saved()
        if self._at is not None and self._at != self._saved:
            try:
                self._writer.begin(self._at)
                self._begun = self._at
            except Unsaved as error:
                self._miss(error.what, self._at)
        self.look()
        self._seconds += time.perf_counter() - began

    def look(self) -> None:
        """Takes note of a checkpoint that has been written meanwhile, or could not be.

        Raises:
            Unsaved: too many in a row could not be.
        """
        if not self._writer.is_writing:
            self._settle()
        self._require_saved()

    def save(self) -> None:
        """Saves the weights, unless that is already done."""
        began = time.perf_counter()
        try:
            self._settle()
        except Exception:  # of a kind that nobody expects: the weights matter more
            self._write()
            raise
        self._write()
        self._seconds += time.perf_counter() - began

    def metrics(self) -> dict[str, float]:
        """Returns how long the run stood still for checkpoints since this was asked last."""
        found, self._seconds = self._seconds, 0.0
        return {"save_seconds": found}

    @contextmanager
    def during(self, step: int, learner: TorchLearner | RankedLearner) -> Iterator[None]:
        """Surrounds a step until it is recorded: if it fails, the weights may still be those before it.

        Raises:
            Diverged: says as which step the weights of the last good one were saved.
        """
        place, self._at = learner.place, None
        try:
            yield
        except Diverged as error:
            if learner.place != place:
                raise
            self._settle()  # what is being written may be the same step, before
            self._at, self._saved = step, None
            self.save()
            raise Diverged(f"{error} They are saved as step {step} of {self._run}.") from error
        except BaseException:
            self._at = step if learner.place == place and not self._is_updating() else None
            raise
        self._at = step + 1

    @contextmanager
    def whatever_happens(self) -> Iterator[None]:
        """Saves the weights before anything ends the run, and says where; a signal to stop is not an error.

        Raises:
            Unsaved: there was a signal to stop, and the weights could not be saved.
        """
        try:
            yield
        except BrokenOff:
            self._save_at_the_end()
        except BaseException as error:
            self._save_after(error)
            raise

    def _save_after(self, error: BaseException) -> None:
        """Saves the weights after an error; if this fails, too, it must not hide the error."""
        try:
            self._save_at_the_end()
        except Exception as second:  # noqa: BLE001  # the first one matters more
            error.add_note(f"Step {self._at} could not be saved either: {second}")
            return
        if self._saved is not None:
            error.add_note(f"The run is saved as step {self._saved}. Continue with: arpo train --resume {self._run}")

    def _save_at_the_end(self) -> None:
        if self._at:
            self.save()
        else:
            self._settle()

    def _write(self) -> None:
        if self._at is not None and self._at != self._saved:
            self._writer.write(self._at)
            self._saved, self._missed = self._at, []

    def _settle(self) -> None:
        """Waits for what is being written; if it cannot be, the run goes on with the checkpoint before it."""
        step = self._begun
        if step is None:
            return
        try:
            self._writer.wait()  # if a signal interrupts it, it is still being written
            self._saved, self._missed = step, []
        except Unsaved as error:
            self._miss(error.what, step)
        except Lost as error:
            self._miss(f"The checkpoint of step {step} could not be written: {error} Older ones are intact.", step)
        except Exception:
            self._begun = None
            raise
        self._begun = None

    def _miss(self, what: str, step: int) -> None:
        """Does without the checkpoint of a step, and says how much is not saved."""
        self._missed.append(what)
        steps = (step if self._at is None else self._at) - (self._saved or 0)
        goes_on, then = " The run goes on.", f" After {IN_A_ROW} failed checkpoints in a row, it ends."
        if len(self._missed) >= IN_A_ROW:
            goes_on = then = ""
        self._tell(f"{what}{goes_on} Steps that are not saved: {steps}.{then}")

    def _require_saved(self) -> None:
        if len(self._missed) >= IN_A_ROW:
            raise Unsaved(
                f"{len(self._missed)} checkpoints in a row could not be written, so the run ends. {self._missed[-1]}",
                f"When this is mended, continue with: arpo train --resume {self._run}",
            )
