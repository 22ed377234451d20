"""What a learner's ranks hold, for the process of the trainer: their weights, and copies of all that a checkpoint has."""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from .launcher import Lost
from .leftovers import KEPT, READ
from .published import ReadWhenAsked, StoredWeights, linked, weights_in

_LOOK = 0.1
"""Seconds between two looks whether copies are written; a rank that learns answers only afterwards."""


class WeightsOnRanks(ReadWhenAsked):
    """Weights that ranks write into a folder.

    Args:
        publish: has the ranks write them into a folder.
        written: returns the folder into which the ranks wrote them last; None if they did not, or have learned since.
        home: folder of the ranks.
    """

    def __init__(self, publish: Callable[[Path], None], written: Callable[[], Path | None], home: Path) -> None:
        self._publish, self._written, self._home = publish, written, home

    def write(self, folder: Path) -> None:
        """Has them written; see `published.write_published`."""
        self._publish(folder.absolute())

    def kept(self) -> StoredWeights:
        """Returns them as they are now: what the ranks wrote last gets a second name, so that nothing is written again."""
        folder = self._home / f"{KEPT}{time.monotonic_ns()}"
        if (written := self._written()) is not None and written.is_dir():
            linked(written, folder)
        else:
            self.write(folder)
        return StoredWeights(folder, ours=True)

    def _read(self) -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory(dir=self._home, prefix=READ) as folder:
            self.write(Path(folder) / "weights")
            return weights_in(Path(folder) / "weights")


class SnapshotOnRanks:
    """Stands for the copies on a learner's ranks; see `learner.Snapshot`.

    Args:
        ask: has all ranks do something: (method, *arguments) -> what the first one returns. It raises Lost when the ranks that
            have the copies are gone.
    """

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Has the ranks forget the copies."""
        with suppress(Lost):
            self._ask("drop")

    def save_pretrained(self, folder: Path) -> None:
        """Has them write the model's part of a Hugging Face folder."""
        self._write("save_pretrained", Path(folder).absolute())

    def save(self, folder: Path) -> None:
        """Has them write all but the weights."""
        self._write("save", folder.absolute())

    def _write(self, what: str, folder: Path) -> None:
        """Has the ranks begin, so that none is kept from learning, and looks now and then whether they are done."""
        self._ask("write", what, folder)
        while (found := self._ask("written")) is None:
            time.sleep(_LOOK)
        if found.error is not None:
            raise found.error
