"""What a run has learned but not saved yet: whatever ends the run, its last whole step is saved first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..learner import Diverged, TorchLearner
from .signals import BrokenOff


class Kept:
    """Keeps track of how many steps the weights have taken, and whether they are saved.

    Args:
        write: saves the weights as those after that many steps.
        run: its folder, for messages.
        saved: how many steps are already saved; None if nothing is.
    """

    def __init__(self, write: Callable[[int], None], run: Path, saved: int | None) -> None:
        self._write, self._run, self._saved = write, run, saved
        self._at: int | None = saved or 0
        """How many steps the weights have taken, all of them recorded; None in the middle of one."""

    def save(self) -> None:
        """Saves the weights, unless that is already done."""
        if self._at is not None and self._at != self._saved:
            self._write(self._at)
            self._saved = self._at

    @contextmanager
    def during(self, step: int, learner: TorchLearner) -> Iterator[None]:
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
            self._at, self._saved = step, None
            self.save()
            raise Diverged(f"{error} They are saved as step {step} of {self._run}.") from error
        except BaseException:
            self._at = step if learner.place == place else None
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
            if self._at:
                self.save()
        except BaseException as error:
            self._save_after(error)
            raise

    def _save_after(self, error: BaseException) -> None:
        """Saves the weights after an error; if this fails, too, it must not hide the error."""
        try:
            if self._at:
                self.save()
        except Exception as second:  # noqa: BLE001  # the first one matters more
            error.add_note(f"Step {self._at} could not be saved either: {second}")
            return
        if self._saved is not None:
            error.add_note(f"The run is saved as step {self._saved}. Continue with: arpo train --resume {self._run}")
