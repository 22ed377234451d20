"""Finds the newest whole checkpoint of a run."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from arpo_envs import ConfigError

from ..cluster import StoredWeights
from ..durable import checksums
from ..models.loading import load_tokenizer
from .writing import point, recover

log = logging.getLogger(__name__)

MANIFEST, STATE, LEARNER, PREVIOUS = "manifest.json", "state.json", "learner", "previous"
"""Names in the folder of a checkpoint."""
_OLDER = "learner.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Args:
        path: its folder.
        step: steps that are done.
        state: what the run stored with it.
    """

    path: Path
    step: int
    state: Mapping[str, Any]

    @property
    def policy(self) -> Path:
        """The model folder."""
        return self.path / "policy"

    @property
    def learner(self) -> Path:
        """Where the learner's state is, for `Learner.load`."""
        return self.path / LEARNER

    def previous(self) -> StoredWeights | None:
        """Returns the weights of the step before; None if they were not stored."""
        return StoredWeights(self.path / PREVIOUS) if (self.path / PREVIOUS).is_dir() else None


def latest(run: Path, tell: Callable[[str], None] = log.warning) -> Checkpoint | None:
    """Returns the newest whole checkpoint of a run, or None if there never was one.

    Damaged ones that are newer are put aside, and `run/policy` points at the one that is returned.

    Args:
        run: its folder.
        tell: called with a message for each damaged one, and where there is a file in the format of an earlier version.

    Raises:
        ConfigError: there are checkpoints, and all are damaged.
    """
    home = run / "checkpoints"
    recover(home)
    damaged: list[tuple[Path, str]] = []
    for path in reversed(numbered(home)):
        found = _read(path)
        if isinstance(found, Checkpoint):
            for other, why in damaged:
                tell(f"Checkpoint {other.name} is damaged ({why}) and was put aside; continuing from {path.name}.")
                _put_aside(other)
            if damaged:
                point(run / "policy", path / "policy")
            if (path / _OLDER).is_file():
                tell(
                    f"Checkpoint {path.name} holds {_OLDER}, as earlier versions wrote it: a pickle, of which only tensors and "
                    "numbers are read, and no code is run. The next checkpoint is safetensors."
                )
            return found
        damaged.append((path, found))
    if damaged:
        listed = "; ".join(f"{path.name}: {why}" for path, why in damaged)
        raise ConfigError(f"No checkpoint of {run} is whole: {listed}. Copy one back from elsewhere, or begin a new run.")
    return None


def _read(path: Path) -> Checkpoint | str:
    """Returns a checkpoint, or what is wrong with it.

    Raises:
        OSError: it cannot be read now, which does not mean that it is damaged.
    """
    reading = STATE
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        step = int(state.pop("step"))
        reading = MANIFEST
        if (path / MANIFEST).is_file():
            wanted, found = json.loads((path / MANIFEST).read_text(encoding="utf-8")), checksums(path)
            if wrong := [name for name, numbers in wanted.items() if found.get(name) != numbers]:
                return f"{wrong[0]} is not what was written" if wrong[0] in found else f"{wrong[0]} is missing"
            readers = [_older(path)] if (path / _OLDER).is_file() else []
        else:  # written before there were manifests
            readers = [_older(path), *_readers(path)]
        for reading, read in readers:  # noqa: B007  # named if it fails
            read()
    except FileNotFoundError:
        return f"{reading} is missing"
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # anything a reader raises for a file that is cut off or overwritten
        return f"{reading} cannot be read: {type(error).__name__}"
    return Checkpoint(path, step, state)


def _older(path: Path) -> tuple[str, Callable[[], Any]]:
    """Returns the name of a learner's state of an earlier version, and what reads it."""
    return _OLDER, partial(torch.load, path / _OLDER, map_location="cpu", weights_only=True)


def _readers(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yields the files of a policy by name, and what reads each."""
    policy = path / "policy"
    for file in sorted({policy / "config.json", *policy.glob("*.json")}):
        yield f"policy/{file.name}", partial(_parse, file)
    for file in sorted(policy.glob("*.safetensors")) or [policy / "model.safetensors"]:
        yield f"policy/{file.name}", partial(_open, file)
    yield "policy/tokenizer.json", partial(load_tokenizer, policy)


def _parse(file: Path) -> None:
    json.loads(file.read_text(encoding="utf-8"))


def _open(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt"):  # the header holds its length
        pass


def numbered(home: Path) -> list[Path]:
    """Returns the folders of checkpoints in the order of their steps."""
    found = {path: path.name.removeprefix("step-") for path in home.glob("step-*")}
    return sorted((path for path, number in found.items() if number.isdecimal()), key=lambda path: int(found[path]))


def newest_step(run: Path) -> int:
    """Returns the step of the newest checkpoint, whole or not; 0 if there is none."""
    found = numbered(run / "checkpoints")
    return int(found[-1].name.removeprefix("step-")) if found else 0


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(path, aside)
