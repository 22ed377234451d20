"""Paths of a configuration from the root: a run is resumed from wherever its owner happens to be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .policy_source import is_folder


def from_the_root(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the paths among a `TrainConfig`'s fields from the root, so that a run goes on from wherever it is resumed."""
    names = {name: config[name] for name in ("policy", "model_folder")}
    found: dict[str, Any] = {
        name: str(Path(value).absolute()) for name, value in names.items() if value is not None and is_folder(value)
    }
    for name in ("env_args", "train_args", "eval_args", "policy_args", "engine_args"):
        found[name] = tuple(map(_with_absolute_path, config[name]))
    if config["weights_folder"] is not None:
        found["weights_folder"] = config["weights_folder"].absolute()
    return found


def _with_absolute_path(word: str) -> str:
    """Returns a NAME=VALUE word, its value from the root if it is clearly a path: it is there, and no bare word."""
    name, _, value = word.partition("=")
    is_path = ("/" in value or Path(value).suffix) and Path(value).exists()
    return f"{name}={Path(value).absolute()}" if is_path else word
