"""Where metrics go: always to a JSONL file, to wandb on request."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from arpo_envs import ConfigError

from ..durable import sync
from ..metrics import as_json
from ..rollout import reason


class Tracker(Protocol):
    """Takes metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records one step."""
        ...

    def summary(self, values: Mapping[str, Any]) -> None:
        """Records results of the whole run: held-out evaluations."""
        ...

    def close(self) -> None:
        """Says that nothing more comes."""
        ...


@dataclass(frozen=True)
class JsonlTracker:
    """One JSON object per line and step, null for NaN and infinity; a resumed run continues in the same file.

    Args:
        path: of the file.
    """

    path: Path

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **as_json(metrics)}, allow_nan=False) + "\n")

    def summary(self, values: Mapping[str, Any]) -> None:
        """Does nothing: a run's folder has separate files for that."""

    def close(self) -> None:
        """Nothing is held open."""


def require_wandb() -> Any:
    """Returns wandb.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("wandb is not installed: pip install 'arpo-envs[wandb]', or drop --track wandb.") from error
    return wandb


class WandbTracker:
    """Weights & Biases; offline when there is no key, so that no run is lost for lack of an account.

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
        wandb = require_wandb()
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

    def summary(self, values: Mapping[str, Any]) -> None:
        """Puts values into the run's summary."""
        self._run.summary.update(dict(values))

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()


class Guarded:
    """A tracker that may fail without harm: its first failure is reported, and from then on it is not used.

    Args:
        name: of the tracker, for people.
        make: returns it; this may fail too.
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


def has_key() -> bool:
    """Whether wandb could log in: a key in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")


def keep_steps_before(path: Path, step: int) -> None:
    """Drops the lines from step `step` on: a resumed run writes them again.

    Args:
        path: of a JSONL file whose lines have a "step"; may be missing.
        step: the first step to drop.
    """
    if not path.is_file():
        return
    # as bytes: a kill may have cut a character in two, and a text may hold a line end that only Unicode knows
    with path.open("r+b") as lines:  # in place: on a full disk there is no room for a copy
        end = 0
        for line in lines:
            if not _is_before(line, step):
                break
            end += len(line)
        lines.truncate(end)
    sync(path)


def _is_before(line: bytes, step: int) -> bool:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        return False  # a line cut off by a kill, or by a full disk and continued later
    return int(record.get("step", 0)) < step


def log_all(trackers: Sequence[Tracker], step: int, metrics: Mapping[str, float]) -> None:
    """Sends one step everywhere."""
    for tracker in trackers:
        tracker.log(step, metrics)
