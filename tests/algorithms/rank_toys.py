"""A learner that counts, on ranks that are lost as told: what their stand-in does about it is tested without any process."""

import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algorithms.cluster import Lost, Origin, Patience
from algorithms.cluster.rank import Batch
from algorithms.cluster.worker import Answer
from algorithms.learner import LearnerConfig


class Counting:
    """Stands for `Ranks`; what its learner is, is the list of what it learned from.

    Args:
        fates: of the calls, in order: "" as usual, "before" or "after" the work is done.
    """

    def __init__(self, fates: Iterator[str], attempts: int = 3) -> None:
        self.patience = Patience(attempts=attempts, pause=0.0)
        self.home = Path(tempfile.mkdtemp())
        self.lines: list[str] = []
        self.begun = self.published = 0
        self._fates = fates
        self._learned: list[str] | None = None
        self._copy: list[str] = []

    @property
    def are_there(self) -> bool:
        return self._learned is not None

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, origin: Origin) -> Any:
        self.begun += 1
        self._learned = pickle.loads(origin.learner.read_bytes()) if origin.learner is not None else []
        self._weights = ["own"]
        return self._place(), LearnerConfig(), 1.0

    def call(self, method: str, *arguments: Any) -> Any:
        fate = next(self._fates, "")
        if fate == "before":
            self._learned = None
            raise Lost("Struck before.")
        found = getattr(self, f"_{method}")(*arguments)
        if fate == "after":
            self._learned = None
            raise Lost("Struck after.")
        return found

    def close(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def learned(self) -> list[str]:
        assert self._learned is not None
        return self._learned

    def _place(self) -> tuple[int, int]:
        return 2 * len(self.learned), len(self.learned)

    def _update(self, block: bytes) -> Any:
        (tree,) = Batch.unpacked(block).trees
        self.learned.append(tree.task)
        return {"loss": float(len(self.learned))}, self._place()

    def _own(self, name: str) -> str:
        return self._weights[-1]

    def _change(self) -> None:
        assert self._weights == ["own"], "they are changed once"
        self._weights.append("changed")

    def _restore(self) -> None:
        self._weights = ["own"]

    def _publish(self, folder: Path) -> None:
        self.published += 1
        folder.mkdir()
        (folder / "weights").write_text(",".join([self._weights[-1], *self.learned]), encoding="utf-8")

    def _save(self, file: Path) -> None:
        file.write_bytes(pickle.dumps(self.learned))

    def _take(self) -> None:
        self._copy = [*self.learned]

    def _write(self, what: str, file: Path) -> None:
        assert what == "save"
        file.write_bytes(pickle.dumps(self._copy))

    def _written(self) -> Answer:
        return Answer()

    def _drop(self) -> None:
        self._copy = []

    def _load(self, file: Path) -> Any:
        self._learned = pickle.loads(file.read_bytes())
        return self._place()
