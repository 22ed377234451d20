"""Weights & Biases, which is imported only when a run asks for it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError


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
        run_id: identifies the run, so that a resumed one continues it.

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


def has_key() -> bool:
    """Whether wandb could log in: a key in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")
