"""Where metrics go: a JSONL file always, wandb when asked for."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from arpo_envs import ConfigError

from .metrics import as_json


class Tracker(Protocol):
    """Takes metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records one step."""
        ...

    def close(self) -> None:
        """Says that nothing more comes."""
        ...


@dataclass(frozen=True)
class JsonlTracker:
    """One JSON object per line and step, null for what is no number; a resumed run goes on in the same file.

    Args:
        path: of the file.
    """

    path: Path

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **as_json(metrics)}, allow_nan=False) + "\n")

    def close(self) -> None:
        """Nothing is held open."""


class WandbTracker:
    """Weights & Biases; offline when there is no key, so that no run is lost for want of an account.

    Args:
        project: of wandb.
        name: of the run.
        directory: where offline files go.
        config: the resolved configuration.
        run_id: keeps one run over several processes.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self, project: str, name: str, directory: Path, config: Mapping[str, Any], run_id: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("wandb is not installed: pip install 'arpo-envs[wandb]', or drop --track wandb.") from error
        offline = not has_key() and "WANDB_MODE" not in os.environ
        self._run = wandb.init(
            project=project,
            name=name,
            dir=str(directory),
            config=dict(config),
            mode="offline" if offline else None,
            id=run_id,
            resume="allow",
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends one step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()


def has_key() -> bool:
    """Whether wandb could log in: a key in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")


def keep_steps_before(path: Path, step: int) -> None:
    """Drops the lines of steps from `step` on: a resumed run writes them again.

    Args:
        path: of a JSONL file whose lines have "step" at the top or in "meta"; may be missing.
        step: the first step to drop.
    """
    if not path.is_file():
        return
    temporary = path.with_suffix(".tmp")
    # as bytes: a kill may have cut a character in two, and a text may hold what only Unicode takes for a line's end
    with path.open("rb") as lines, temporary.open("wb") as kept:
        kept.writelines(line for line in lines if _is_before(line, step))
    os.replace(temporary, path)


def _is_before(line: bytes, step: int) -> bool:
    if not line.endswith(b"\n"):
        return False  # a line cut off by a kill
    record = json.loads(line)
    return int(record.get("step", record.get("meta", {}).get("step", 0))) < step


def log_all(trackers: Sequence[Tracker], step: int, metrics: Mapping[str, float]) -> None:
    """Sends one step everywhere."""
    for tracker in trackers:
        tracker.log(step, metrics)
