"""Weights & Biases, which is imported only when a run asks for it."""

import math
import os
import shlex
import time
import warnings
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from arpo_envs import ConfigError

from ..rollout import reason
from .tracker import Rows, TrackerWarning

Mode = Literal["online", "offline", "disabled"]

_FORMER = "api.wandb.ai"
"""The usual server's other name, under which older versions of wandb keep its key."""
_SECONDS_TO_BEGIN = 20.0
"""After which a server counts as unreachable; wandb itself adds about ten for its retries."""
_SECONDS_IN_MEMORY = 1.0
"""For which wandb, in versions that can be told so, keeps records before it writes them to its own file; by itself 15."""
_SLOW = 5.0
"""Seconds that a table may take; wandb gives up after about 20."""
_PAUSE = 600.0
"""Seconds without tables after one that took longer or failed."""


def require_wandb(mode: Mode | None = None) -> Any:
    """Returns wandb.

    Args:
        mode: see `WandbTracker`.

    Raises:
        ConfigError: it is not installed, or there is no key for a run that must be online.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("wandb is not installed: pip install 'arpo-envs[wandb]', or drop --track wandb.") from error
    if mode == "online" and not has_key():
        raise ConfigError(
            "wandb cannot be online without an API key: run `wandb login`, set WANDB_API_KEY, or use --wandb-mode offline."
        )
    return wandb


class WandbTracker:
    """Weights & Biases; a run whose server cannot be reached when it begins is kept offline.

    A server that is lost later costs nothing either: wandb keeps a run in a file of its own before it sends it, online, too.

    Args:
        project: of wandb.
        name: of the run.
        directory: where wandb's files go.
        config: the resolved configuration.
        run_id: identifies the run, so that a resumed one continues it.
        mode: None for what WANDB_MODE says; without that, online if there is a key, and otherwise offline.
        process: the id of the process whose use of the machine is recorded; None for this one.

    Raises:
        ConfigError: wandb is not installed, or there is no key for a run that must be online.
    """

    def __init__(
        self,
        project: str,
        name: str,
        directory: Path,
        config: Mapping[str, Any],
        run_id: str,
        mode: Mode | None = None,
        process: int | None = None,
    ) -> None:
        self._wandb = wandb = require_wandb(mode)
        self._step = 0
        self._no_tables_before = -math.inf
        settings = {"init_timeout": _SECONDS_TO_BEGIN, "x_stats_pid": process or os.getpid()}
        if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
            settings["x_transaction_log_flush_interval"] = _SECONDS_IN_MEMORY
        given = {"project": project, "name": name, "dir": str(directory), "config": dict(config), "id": run_id}
        given |= {"resume": "allow", "settings": wandb.Settings(**settings)}
        wanted = mode or os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
        try:
            self._run = wandb.init(**given, mode=wanted)
        except wandb.Error as error:
            if wanted != "online":
                raise
            wandb.teardown()  # what has begun would still hold the run's id
            self._run = wandb.init(**given, mode="offline")
            why = str(error).partition("\n")[0]
            message = f"its server cannot be used ({why}), so that this run is kept offline. {self.later}"
            warnings.warn(message, TrackerWarning, stacklevel=2)

    @property
    def later(self) -> str:
        """How to send what wandb has kept on this machine but could not send; "" if it keeps nothing."""
        if self._run.disabled:
            return ""
        skipped_otherwise = [] if self._run.offline else ["--include-online"]
        return f"Send it later: {shlex.join(['wandb', 'sync', *skipped_otherwise, str(Path(self._run.dir).parent)])}"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends one step."""
        self._step = step
        self._run.log(dict(metrics), step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Puts values into the run's summary."""
        self._run.summary.update(dict(values))

    def table(self, name: str, rows: Rows) -> None:
        """Logs a table with the step that was logged last, unless the server was lost a short while ago.

        wandb asks its server about each table and waits for the answer, and the metrics that come next would have to wait, too.
        """
        began = time.monotonic()
        if began < self._no_tables_before:
            return
        columns = list(dict.fromkeys(column for row in rows for column in row))
        data = [[row.get(column) for column in columns] for row in rows]
        table = self._wandb.Table(columns=columns, data=data, allow_mixed_types=True)
        why = ""
        try:
            self._run.log({name: table}, step=self._step)
        except Exception as error:  # noqa: BLE001  # whatever it is, metrics matter more than a table
            why = reason(error)
        ended = time.monotonic()
        if why or ended - began > _SLOW:
            self._no_tables_before = ended + _PAUSE
            message = f"its server did not take a table ({why or f'it took {ended - began:.0f} s'}). Metrics go on; tables are "
            warnings.warn(f"{message}left out for {_PAUSE / 60:g} minutes.", TrackerWarning, stacklevel=2)

    def file(self, path: Path) -> None:
        """Keeps a file with the run."""
        self._run.save(str(path), base_path=str(path.parent), policy="now")

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()


def has_key() -> bool:
    """Whether wandb, which must be installed, could log in to its server: a key in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        known = netrc(Path(os.environ.get("NETRC") or "~/.netrc").expanduser())
    except (OSError, NetrcParseError, UnicodeDecodeError):
        return False
    return any(found is not None and bool(found[2]) for found in map(known.authenticators, _machines()))


def _machines() -> list[str]:
    """Returns the names under which wandb finds its server's key in a netrc file."""
    import wandb

    usual = wandb.Settings().base_url
    url = os.environ.get("WANDB_BASE_URL") or _saved_url() or usual
    return [urlsplit(url).netloc, *([_FORMER] if url.rstrip("/") == usual.rstrip("/") else [])]


def _saved_url() -> str | None:
    """Returns the server that wandb's settings name, those of the user or of the working directory; None if they name none."""
    saved = ConfigParser(interpolation=None)
    try:
        own = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
        saved.read([own / "settings", Path("wandb", "settings")], encoding="utf-8")
        return saved.get("default", "base_url", fallback=None)
    except (ConfigParserError, UnicodeDecodeError):
        return None
