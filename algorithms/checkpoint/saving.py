"""Writes checkpoints, of a model on one rank or on several."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..durable import checksums, sync_all
from ..learner import write_weights
from .found import LEARNER, MANIFEST, STATE, Checkpoint, numbered
from .writing import copy, point, replace, save_policy, written

if TYPE_CHECKING:
    from ..learner import ShardedLearner


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
    final = run / "checkpoints" / _name(step)
    with written(run, _described(step), command) as temporary:
        save_policy(temporary / "policy", model, tokenizer, weights)
        learner.save(temporary / LEARNER)
        _finish(run, temporary, final, {"step": step, **state}, beside)
    for old in numbered(final.parent)[:-keep]:
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
    final = run / "checkpoints" / _name(step)

    def only_first(work: Callable[[], None]) -> None:
        learner.agree(_error_of(work) if learner.is_first else None)

    def describe() -> None:
        policy.mkdir(parents=True)
        learner.model.config.save_pretrained(policy)
        if learner.model.can_generate():
            learner.model.generation_config.save_pretrained(policy)
        tokenizer.save_pretrained(policy)

    def forget() -> None:
        for old in numbered(final.parent)[:-keep]:
            shutil.rmtree(old)

    with written(run, _described(step), command, writes=learner.is_first) as temporary:
        policy = temporary / "policy"
        only_first(describe)
        learner.agree(_error_of(lambda: write_weights(policy, learner.weights(), writes=learner.is_first)))
        learner.save(temporary / LEARNER)
        only_first(lambda: _finish(run, temporary, final, {"step": step, **state}, beside))
    only_first(forget)
    return Checkpoint(final, step, dict(state))


def _error_of(work: Callable[[], None]) -> Exception | None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # it is raised again, on all ranks
        return error
    return None


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
