"""What a run records, and where: always in its own file, and with the tracker of `--track`, which cannot harm it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from ..durable import write_text
from ..rollout import reason
from ..tracking import (
    FILE,
    TABLE,
    Guarded,
    JsonlTracker,
    TensorboardTracker,
    Tracker,
    WandbTracker,
    log_all,
    require_tensorboard,
    require_wandb,
)
from ..trainer import StepResult
from .config import TrainConfig
from .gating import Gate
from .report import page_of
from .stored import stored
from .tracked_tables import Row, entropy_rows, held_out_rows, rollout_rows
from .viewer import write_page

METRICS = "metrics.jsonl"
_PAGE = "report.html"
_REPORT = ("summary.json", "training.png")
_PAGE_BYTES = 10_000_000
"""Of trees in the page that goes to wandb; `arpo report` writes a larger one."""


def require_tracker(config: TrainConfig) -> None:
    """Finds out before the long work whether the tracker of a run can be used.

    Raises:
        ConfigError: it is not installed, or has no key.
    """
    if config.track == "wandb":
        require_wandb(config.wandb_mode)
    elif config.track == "tensorboard":
        require_tensorboard()


class Tracked:
    """Records a run.

    Args:
        config: resolved.
        run: its folder.
        first: the step with which it begins or goes on.
        tell: called with what people should know of a tracker.
    """

    def __init__(self, config: TrainConfig, run: Path, first: int, tell: Callable[[str], None]) -> None:
        self._config, self._run, self._first, self._tell = config, run, first, tell
        self._trackers: list[Tracker] = [JsonlTracker(run / METRICS)]
        self._held_out: list[Row] = []
        self._gate = Gate.of(asdict(config), include_gated=config.track_gated)
        if config.track != "none":
            self._trackers.append(Guarded(config.track, _maker(config, run, first), tell))

    def step(self, step: int, result: StepResult, *, is_last: bool) -> None:
        """Records a step; the first, the last, and those with a checkpoint with tables of their rollouts, too."""
        log_all(self._trackers, step, result.metrics)
        if step == self._first or is_last or (step + 1) % self._config.checkpoint_every == 0:
            self._table("rollouts", lambda: rollout_rows(step, result.trees, withheld=self._gate.keeps_back))
            self._table("entropy_around_results", lambda: entropy_rows(step, result.trees))

    def held_out(self, when: str, measured: Mapping[str, Any]) -> None:
        """Records held-out results.

        Args:
            when: "before" or "after" training.
            measured: by name.
        """
        for tracker in self._trackers:
            tracker.summary({f"{when}/{name}": value for name, value in measured.items() if value is not None})
        self._held_out += held_out_rows(when, measured)
        self._table("held_out", lambda: self._held_out)

    def report(self, say: Callable[[str], None]) -> None:
        """Records the files of the report.

        Args:
            say: is told what takes its time.
        """
        names = [*_REPORT]
        if self._config.track == "wandb":
            say(f"writing {_PAGE}")
            names += [_PAGE] if self._write_page() else []
        for tracker in self._trackers:
            for path in (self._run / name for name in names):
                if path.is_file():  # a run of no steps has no plot
                    FILE.of(tracker)(path)

    def _write_page(self) -> bool:
        """Returns whether the page is there: one that somebody else has written may show what trackers must not have."""
        gate = Gate.of_folder(self._run, include_gated=self._config.track_gated)
        try:
            write_page(page_of(stored(self._run), self._run, _PAGE_BYTES, gate, lambda _: None), self._run / _PAGE)
        except ConfigError:  # a run of no steps has no trees, and those of another may all be gated
            return False
        except Exception as error:  # noqa: BLE001  # a page of a run is not worth the run
            self._tell(f"{self._run / _PAGE} cannot be written, and is not kept: {reason(error)}")
            return False
        return True

    def close(self) -> None:
        """Says that nothing more comes."""
        for tracker in self._trackers:
            tracker.close()

    def _table(self, name: str, rows: Callable[[], Sequence[Row]]) -> None:
        """Records a table with the trackers that have tables, if it has rows; without such a tracker it costs nothing."""
        wanting = [table for table in map(TABLE.of, self._trackers) if table is not TABLE.usual]
        found = rows() if wanting else []
        for table in wanting if found else []:
            table(name, found)


def _maker(config: TrainConfig, run: Path, first: int) -> Callable[[], Tracker]:
    """Returns what makes the tracker of `--track`, in another process."""
    if config.track == "tensorboard":
        return partial(TensorboardTracker, run / "tensorboard", first)
    return partial(
        WandbTracker,
        config.wandb_project,
        run.name,
        run,
        asdict(config),
        run_id=_run_id(run),
        mode=config.wandb_mode,
        process=os.getpid(),
    )


def _run_id(run: Path) -> str:
    """Returns a name of the run that survives a resume."""
    file = run / "wandb_id"
    if not file.is_file():
        write_text(file, os.urandom(6).hex())
    return file.read_text(encoding="utf-8")
