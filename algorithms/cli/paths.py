"""Makes the paths of a configuration absolute, so that a run can be resumed from any directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .policy_source import is_folder


def from_the_root(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the paths among a `TrainConfig`'s fields as absolute ones."""
    names = {name: config[name] for name in ("policy", "model_folder")}
    found: dict[str, Any] = {
        name: str(Path(value).absolute()) for name, value in names.items() if value is not None and is_folder(value)
    }
    for name in ("env_args", "train_args", "eval_args", "policy_args", "engine_args"):
        found[name] = tuple(map(_with_absolute_path, config[name]))
    for name in ("weights_folder", "recording"):
        if config[name] is not None:
            found[name] = config[name].absolute()
    return found


def _with_absolute_path(word: str) -> str:
    """Returns a NAME=VALUE word, with an absolute value if that is clearly a path: one that exists, and not a bare word."""
    name, _, value = word.partition("=")
    is_path = ("/" in value or Path(value).suffix) and Path(value).exists()
    return f"{name}={Path(value).absolute()}" if is_path else word
