"""Checkpoints: written aside, then renamed, so that a killed run always finds a whole one; damaged ones are skipped.

run/checkpoints/step-000040/policy/        an ordinary Hugging Face folder
run/checkpoints/step-000040/learner/       optimizer, in parts that any number of ranks can read
run/checkpoints/step-000040/state.json     how far the run is
run/checkpoints/step-000040/manifest.json  sizes and checksums of all these
run/policy -> checkpoints/step-000040/policy
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from arpo_envs import ArpoError, ConfigError

from .durable import checksums, sync, sync_all
from .learner import has_adapters, merged_state, write_weights
from .models.compiled import plain
from .models.loading import load_tokenizer, without_bars

if TYPE_CHECKING:
    from .learner import ShardedLearner

log = logging.getLogger(__name__)

_MANIFEST, _STATE, _LEARNER, _OLDER = "manifest.json", "state.json", "learner", "learner.pt"
_FULL = {errno.ENOSPC: "The disk is full", errno.EDQUOT: "The quota is used up", errno.EFBIG: "A file may not grow further"}


class Stateful(Protocol):
    """What has a state to save."""

    def save(self, folder: Path) -> None:
        """Writes it; the folder may be missing."""
        ...


class Unsaved(ArpoError, OSError):
    """A checkpoint could not be written; earlier ones are intact."""


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
        return self.path / _LEARNER


def save(
    run: Path,
    step: int,
    model: Any,
    tokenizer: Any,
    learner: Stateful,
    state: Mapping[str, Any],
    *,
    weights: Mapping[str, Any] | None = None,
    beside: Sequence[Path] = (),
    keep: int = 2,
    command: str = "arpo train",
) -> Checkpoint:
    """Writes a checkpoint atomically and to the disk itself, points `run/policy` at it and drops older ones.

    Args:
        run: folder of the run.
        step: steps that are done.
        model: has `save_pretrained`.
        tokenizer: has `save_pretrained`.
        learner: saves its state.
        state: JSON values.
        weights: the model's, where they differ from its state dict (adapters are merged into them).
        beside: files to copy into the model folder, where they exist.
        keep: how many checkpoints stay.
        command: what continues the run, for messages.

    Raises:
        Unsaved: there is no room, or no permission.
    """
    with _written(run, step, command) as (temporary, final):
        save_policy(temporary / "policy", model, tokenizer, weights)
        learner.save(temporary / _LEARNER)
        _finish(run, temporary, final, {"step": step, **state}, beside)
    for old in _numbered(final.parent)[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(final, step, dict(state))


def save_together(
    run: Path,
    step: int,
    tokenizer: Any,
    learner: "ShardedLearner",
    state: Mapping[str, Any],
    *,
    beside: Sequence[Path] = (),
    keep: int = 2,
    command: str = "arpo train",
) -> Checkpoint:
    """Writes the same as `save`, of a model that lies on several ranks; each of them calls this, with the same arguments.

    They share the folder. No rank holds more of the weights at once than one file does.

    Args:
        run: as for `save`.
        step: as for `save`.
        tokenizer: as for `save`.
        learner: holds the model.
        state: as for `save`; that of the first rank is stored.
        beside: as for `save`.
        keep: as for `save`.
        command: as for `save`.

    Raises:
        Unsaved: there is no room, or no permission; on every rank, whichever has noticed.
    """

    def only_first(work: Callable[[], None]) -> None:
        learner.agree(_error_of(work) if learner.is_first else None)

    def describe() -> None:
        policy.mkdir(parents=True)
        learner.model.config.save_pretrained(policy)
        if learner.model.can_generate():
            learner.model.generation_config.save_pretrained(policy)
        tokenizer.save_pretrained(policy)

    def forget() -> None:
        for old in _numbered(final.parent)[:-keep]:
            shutil.rmtree(old)

    with _written(run, step, command, writes=learner.is_first) as (temporary, final):
        policy = temporary / "policy"
        only_first(describe)
        learner.agree(_error_of(lambda: write_weights(policy, learner.weights(), writes=learner.is_first)))
        learner.save(temporary / _LEARNER)
        only_first(lambda: _finish(run, temporary, final, {"step": step, **state}, beside))
    only_first(forget)
    return Checkpoint(final, step, dict(state))


def _error_of(work: Callable[[], None]) -> Exception | None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # it is raised again, on all ranks
        return error
    return None


@contextmanager
def _written(run: Path, step: int, command: str, *, writes: bool = True) -> Iterator[tuple[Path, Path]]:
    """Returns a folder to write to, empty, and the one that it becomes; nothing is left of it if that fails.

    Raises:
        Unsaved: there is no room, or no permission.
    """
    home = run / "checkpoints"
    final, temporary = home / _name(step), home / f".{_name(step)}.tmp"
    try:
        if writes:
            home.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
        yield temporary, final
    except Exception as error:
        if writes:
            shutil.rmtree(temporary, ignore_errors=True)
        reason = no_room(error) or (f"{type(error).__name__} {error}" if isinstance(error, OSError) else None)
        if reason is None:
            raise
        raise Unsaved(
            f"{reason}: the checkpoint of step {step} could not be written to {home}. Older ones are intact. Make room, and "
            f"continue with: {command} --resume {run}"
        ) from error


def _finish(run: Path, temporary: Path, final: Path, state: Mapping[str, Any], beside: Sequence[Path]) -> None:
    """Completes a checkpoint, and makes it the newest one."""
    for file in beside:
        if file.is_file():
            shutil.copyfile(file, temporary / "policy" / file.name)
    (temporary / _STATE).write_text(json.dumps(dict(state)), encoding="utf-8")
    (temporary / _MANIFEST).write_text(json.dumps(checksums(temporary)), encoding="utf-8")
    sync_all(temporary)
    _replace(temporary, final)
    _point(run, final)


def _name(step: int) -> str:
    return f"step-{step:06d}"


def no_room(error: BaseException) -> str | None:
    """Returns why there is no room to write; None for an error of another kind.

    safetensors and torch raise their own exceptions for it, without an error number, but quoting the system's words.
    """
    seen: BaseException | None = error
    while seen is not None:
        known = seen.errno if isinstance(seen, OSError) else None
        for number, words in _FULL.items():
            if number == known or os.strerror(number) in str(seen) or f"os error {number}" in str(seen):
                return words
        if "unexpected pos" in str(seen) or "PytorchStreamWriter failed" in str(seen):
            return "A file could not be written in full"
        seen = seen.__cause__ or seen.__context__
    return None


def _replace(temporary: Path, final: Path) -> None:
    """Replaces a folder by another; if it is interrupted in between, `_recover` puts the old one back."""
    _recover(final.parent)
    aside = final.with_name(f".{final.name}.old")
    if final.exists():
        os.replace(final, aside)
    os.replace(temporary, final)
    sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _recover(home: Path) -> None:
    """Puts back what was moved aside for a newer one that never came."""
    for aside in home.glob(".step-*.old"):
        final = home / aside.name[1:].removesuffix(".old")
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(aside, final)


def _point(run: Path, final: Path) -> None:
    """Points `run/policy` at a checkpoint."""
    link = run / ".policy.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("checkpoints") / final.name / "policy", target_is_directory=True)
    os.replace(link, run / "policy")
    sync(run)


def save_policy(folder: Path, model: Any, tokenizer: Any, weights: Mapping[str, Any] | None = None) -> None:
    """Writes a model and its tokenizer as an ordinary Hugging Face folder, which `load_policy` takes.

    Args:
        folder: to write to.
        model: has `save_pretrained`; what is compiled in it is replaced by the plain modules.
        tokenizer: has `save_pretrained`.
        weights: the ones to write, where they differ from the model's own, adapters merged into them.
    """
    model = plain(model)
    if weights is None and has_adapters(model):
        weights = merged_state(model)
    with without_bars():
        model.save_pretrained(folder, **({} if weights is None else {"state_dict": dict(weights)}))
        tokenizer.save_pretrained(folder)


def latest(run: Path, tell: Callable[[str], None] = log.warning) -> Checkpoint | None:
    """Returns the newest whole checkpoint of a run, or None if there never was one.

    Damaged ones that are newer are put aside, and `run/policy` points at the one that is returned.

    Args:
        run: its folder.
        tell: called with a message for each damaged one.

    Raises:
        ConfigError: there are checkpoints, and all are damaged.
    """
    home = run / "checkpoints"
    _recover(home)
    damaged: list[tuple[Path, str]] = []
    for path in reversed(_numbered(home)):
        found = _read(path)
        if isinstance(found, Checkpoint):
            for other, why in damaged:
                tell(f"Checkpoint {other.name} is damaged ({why}) and was put aside; continuing from {path.name}.")
                _put_aside(other)
            if damaged:
                _point(run, path)
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
    reading = _STATE
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        step = int(state.pop("step"))
        reading = _MANIFEST
        if (path / _MANIFEST).is_file():
            wanted, found = json.loads((path / _MANIFEST).read_text(encoding="utf-8")), checksums(path)
            if wrong := [name for name, numbers in wanted.items() if found.get(name) != numbers]:
                return f"{wrong[0]} is not what was written" if wrong[0] in found else f"{wrong[0]} is missing"
        else:  # written before there were manifests
            for reading, read in _readers(path):  # noqa: B007  # named if it fails
                read()
    except FileNotFoundError:
        return f"{reading} is missing"
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # anything a reader raises for a file that is cut off or overwritten
        return f"{reading} cannot be read: {type(error).__name__}"
    return Checkpoint(path, step, state)


def _readers(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yields the files of a checkpoint by name, and what reads each."""
    yield _OLDER, partial(torch.load, path / _OLDER, weights_only=True)
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


def _numbered(home: Path) -> list[Path]:
    """Returns the folders of checkpoints in the order of their steps."""
    found = {path: path.name.removeprefix("step-") for path in home.glob("step-*")}
    return sorted((path for path, number in found.items() if number.isdecimal()), key=lambda path: int(found[path]))


def newest_step(run: Path) -> int:
    """Returns the step of the newest checkpoint, whole or not; 0 if there is none."""
    found = _numbered(run / "checkpoints")
    return int(found[-1].name.removeprefix("step-")) if found else 0


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(path, aside)
