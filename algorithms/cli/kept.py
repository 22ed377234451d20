"""What a run has earned and not saved yet: whatever ends it, the last whole step is saved first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..learner import Diverged, TorchLearner
from .signals import BrokenOff


class Kept:
    """Knows after which step the weights are, and whether that is saved.

    Args:
        write: saves the weights as those after so many steps.
        run: its folder, for messages.
        saved: steps that are saved; None if nothing is.
    """

    def __init__(self, write: Callable[[int], None], run: Path, saved: int | None) -> None:
        self._write, self._run, self._saved = write, run, saved
        self._at: int | None = saved or 0
        """Steps after which the weights are, all of them written down; None in the middle of one."""

    def save(self) -> None:
        """Saves, if it is not done yet."""
        if self._at is not None and self._at != self._saved:
            self._write(self._at)
            self._saved = self._at

    @contextmanager
    def during(self, step: int, learner: TorchLearner) -> Iterator[None]:
        """Surrounds a step, up to where it is written down: if it fails, the weights may still be those before it.

        Raises:
            Diverged: with the step as which the weights of the last good one were saved.
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
        """Saves before anything that ends a run does, and says where it is; being told to stop is no error.

        Raises:
            Unsaved: it was told to stop, and could not save.
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
        """Saves what an error left; that this may fail, too, must not hide the error."""
        try:
            if self._at:
                self.save()
        except Exception as second:  # noqa: BLE001  # the first one is worth more
            error.add_note(f"Nor could step {self._at} be saved: {second}")
            return
        if self._saved is not None:
            error.add_note(f"The run is saved as step {self._saved}. Continue with: arpo train --resume {self._run}")
