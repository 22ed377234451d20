"""Writes checkpoints, of a model on one rank or on several."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..cluster import write_published
from ..durable import checksums, sync_all
from .found import LEARNER, MANIFEST, PREVIOUS, STATE, Checkpoint, numbered
from .writing import copy, fresh_name, point, replace, save_policy, written

if TYPE_CHECKING:
    from ..learner import ShardedLearner, ShardedSnapshot


class Stateful(Protocol):
    """What has a state to save."""

    def save(self, folder: Path) -> None:
        """Writes it; the folder may be missing."""
        ...


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
    previous: Mapping[str, Any] | None = None,
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
        previous: weights of the step before, which a run that collects ahead needs to continue.
        keep: how many checkpoints stay.
        command: what continues the run, for messages.

    Raises:
        Unsaved: there is no room, or no permission.
    """
    final = run / "checkpoints" / _name(step)
    with written(run, _described(step), command) as temporary:
        save_policy(temporary / "policy", model, tokenizer, weights)
        learner.save(temporary / LEARNER)
        if previous is not None:
            write_published(previous, temporary / PREVIOUS)
        _finish(run, temporary, final, {"step": step, **state}, beside)
    for old in numbered(final.parent)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)  # what somebody still reads goes with the next one
    return Checkpoint(final, step, dict(state))


def save_together(
    run: Path,
    step: int,
    tokenizer: Any,
    learner: "ShardedLearner | ShardedSnapshot",
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
        learner: holds the model, or a copy of it.
        state: as for `save`; that of the first rank is stored.
        beside: as for `save`.
        keep: as for `save`.
        command: as for `save`.

    Raises:
        Unsaved: there is no room, or no permission; on every rank, whichever has noticed.
    """
    final = run / "checkpoints" / _name(step)

    def forget() -> None:
        for old in numbered(final.parent)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    name = learner.of_first(fresh_name())
    with written(run, _described(step), command, name=name, writes=learner.is_first) as temporary:
        learner.save_pretrained(temporary / "policy")
        learner.together(lambda: tokenizer.save_pretrained(temporary / "policy"), only_first=True)
        learner.save(temporary / LEARNER)
        learner.together(lambda: _finish(run, temporary, final, {"step": step, **state}, beside), only_first=True)
    learner.together(forget, only_first=True)
    return Checkpoint(final, step, dict(state))


def _finish(run: Path, temporary: Path, final: Path, state: Mapping[str, Any], beside: Sequence[Path]) -> None:
    """Completes a checkpoint, and makes it the newest one."""
    copy(beside, temporary / "policy")
    (temporary / STATE).write_text(json.dumps(dict(state)), encoding="utf-8")
    (temporary / MANIFEST).write_text(json.dumps(checksums(temporary)), encoding="utf-8")
    sync_all(temporary)
    replace(temporary, final)
    point(run / "policy", final / "policy")


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _described(step: int) -> str:
    return f"the checkpoint of step {step}"
