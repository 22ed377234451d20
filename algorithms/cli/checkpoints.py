"""The checkpoints of a run: written from a copy while it goes on, or at once."""

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from ..checkpoint import Background, Unsaved, is_no_memory, save
from ..cluster import RankedLearner
from ..durable import sync
from ..learner import TorchLearner
from ..models.built_in import MARK
from .config import TrainConfig
from .parts import Parts
from .tracked import METRICS

TREES = "trees.jsonl.zst"
"""The rollout trees of a run, in its folder."""
_GROWING = (METRICS, TREES, f"{TREES}.index")
"""Files of a run that each step adds to."""


class Checkpoints:
    """Writes the checkpoints of a run; a context manager, which waits for what is being written.

    Args:
        config: of the run.
        start: folder of the policy that the run starts from.
        parts: what is saved.
        origin: when the run began, by `time.perf_counter`.
        tell: is told, in a line, that there is no memory for a copy.
    """

    def __init__(
        self,
        config: TrainConfig,
        start: Path,
        parts: Parts,
        origin: float,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._config, self._start, self._parts, self._origin, self._tell = config, start, parts, origin, tell
        self._waits = config.wait_for_checkpoints
        self._run = config.output or Path()
        self._background = Background()
        self._updates = 0
        """How many updates there are in what is being written."""

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Waits."""
        self._background.__exit__(*exception)

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._background.is_writing

    def write(self, step: int) -> None:
        """Writes a checkpoint, when no other one is being written.

        Args:
            step: steps that are done.

        Raises:
            Unsaved: there is no room, or no permission.
        """
        self.rest()
        parts = self._parts
        self._saving(step)(parts.model, parts.learner, weights=merged(parts))
        self._is_saved(parts.learner.place[1])

    def begin(self, step: int) -> None:
        """Begins to write a checkpoint, when no other one is being written; with `--wait-for-checkpoints`, writes it.

        It is also written at once if there is no memory for a copy, and so are all that follow.

        Args:
            step: steps that are done.

        Raises:
            Unsaved: as for `write`; otherwise `wait` raises it.
        """
        learner = self._parts.learner
        self._updates = learner.place[1]
        if not self._waits:
            keep = self._saving(step)
            try:
                self._background.begin(learner.snapshot, lambda taken: keep(taken, taken))
                return
            except Exception as error:
                if not is_no_memory(error):
                    raise
            self._wait_from_now_on()
        self.write(step)

    def _wait_from_now_on(self) -> None:
        self._waits = True
        self._tell("There is no memory for a copy of the weights, so the run waits for its checkpoints from now on.")

    def rest(self) -> None:
        """Waits until nothing is being written, so that something else can be."""
        self._background.rest()

    def wait(self) -> None:
        """Waits for what was begun last.

        Raises:
            Unsaved: there was no room, no permission, or no memory.
            Lost: a rank of the learner was lost meanwhile.
        """
        try:
            self._background.wait()
        except Exception as error:
            if not is_no_memory(error):
                raise
            self._wait_from_now_on()
            raise Unsaved(
                "There was not enough memory to write a checkpoint.", "The next one is written without a copy."
            ) from error
        self._is_saved(self._updates)

    def _saving(self, step: int) -> Callable[..., None]:
        """Returns what writes a checkpoint of a model and a learner that are as the run is now.

        What the run has recorded is on the disk when it returns.
        """
        run, trainer, tokenizer = self._run, self._parts.trainer, self._parts.tokenizer
        for name in _GROWING:
            if (run / name).is_file():
                sync(run / name)
        beside = [self._start / MARK]
        state = {"seconds": time.perf_counter() - self._origin, "branching": copy.deepcopy(trainer.adaptation.memory)}
        previous = trainer.ahead.weights.get(step - 1) if trainer.ahead is not None else None

        def write(model: Any, learner: Any, weights: Mapping[str, Any] | None = None) -> None:
            save(run, step, model, tokenizer, learner, state, weights=weights, previous=previous, beside=beside)

        return write

    def _is_saved(self, updates: int) -> None:
        if isinstance(self._parts.learner, RankedLearner):
            self._parts.learner.saved(updates)


def merged(parts: Parts) -> Any:
    """Returns the weights to save where they differ from the model's own; ranks merge adapters themselves."""
    is_here = isinstance(parts.learner, TorchLearner)
    return parts.learner.weights() if is_here and parts.learner.config.lora is not None else None
