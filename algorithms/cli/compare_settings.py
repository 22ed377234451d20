"""What all runs of a comparison have in common, kept in its folder.

Whoever continues it later, maybe with another version, must train the missing runs as the first ones were trained.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from ..durable import write_text
from .config import OPTIONS, TrainConfig
from .groups import GROUPS

_DECIDING = ("task", "sampling", "optimisation")
_COMMON = ("prompts", *(name for group in GROUPS if group.name in _DECIDING for name in group.options))
"""Options of `arpo train` that decide results and that no arm has for itself; the environment is not among them."""


def common(config: TrainConfig) -> dict[str, Any]:
    """Returns the options that decide results and that all arms have in common, as JSON values by name."""
    values = json.loads(json.dumps(asdict(config), default=str))
    return {name: reduce(getitem, OPTIONS[name].path, values) for name in _COMMON if name != "env"}


def settled(folder: Path, settings: Mapping[str, Any], options: Mapping[str, Any], is_alone: bool) -> tuple[bool, list[str]]:
    """Records what all runs of a comparison have in common.

    Args:
        folder: of the comparison.
        settings: what was asked for, as JSON values.
        options: what `common` returns, with the defaults of this version.
        is_alone: whether the runs of this call have the machine for themselves.

    Returns:
        whether those of all calls had; and the words for options that had other defaults when another version began it.

    Raises:
        ConfigError: the folder holds runs with other settings.
    """
    file, words = folder / "settings.json", list[str]()
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        is_alone &= before["runs_alone"]
        if other := [name for name in settings if settings[name] != before.get(name)]:
            raise _mixed(folder, other[0], before.get(other[0]), settings[other[0]])
        begun = _begun(folder) | before.get("options", {})
        words = _words(folder, begun, options)
        options = {**options, **begun}
    write_text(file, json.dumps({**settings, "options": options, "runs_alone": is_alone}, indent=1) + "\n")
    return is_alone, words


def _begun(folder: Path) -> dict[str, Any]:
    """Returns the options that runs were begun with, by whichever version; none if none has begun.

    Raises:
        ConfigError: they were begun with different ones.
    """
    places = sorted(file.parent for file in folder.glob("*/*/config.json") if TrainConfig.is_in(file.parent))
    runs = [(place, config) for place in places if (config := TrainConfig.load(place)).steps]  # without steps it is a start
    first = common(runs[0][1]) if runs else {}
    for place, config in runs:
        one = common(config)
        if other := [name for name in first if one[name] != first[name]]:
            raise _mixed(place, other[0], one[other[0]], f"{first[other[0]]} as {runs[0][0]}")
    return first


def _words(folder: Path, begun: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Returns the words for options that have other values now than when a comparison was begun.

    Raises:
        ConfigError: there are no words for such a value.
    """
    found = []
    for name, value in begun.items():
        if value != options.get(name):
            if not isinstance(value, int | float | str) or isinstance(value, bool) or name not in options:
                raise _mixed(folder, name, value, options.get(name))
            found += [f"--{name.replace('_', '-')}", str(value)]
    return found


def _mixed(folder: Path, name: str, before: object, now: object) -> ConfigError:
    return ConfigError(
        f"{folder} was begun with {name} {before}, not {now}. Runs with different settings cannot be compared: choose another "
        "--output."
    )
