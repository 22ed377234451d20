"""Checkpoints: written beside, then renamed, so that a killed run always finds a whole one.

run/checkpoints/step-000040/policy/      an ordinary Hugging Face folder
run/checkpoints/step-000040/learner.pt   optimizer
run/checkpoints/step-000040/state.json   how far the run is
run/policy -> checkpoints/step-000040/policy
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .adapters import has_adapters, merged_state
from .compiled import plain
from .loading import without_bars


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Args:
        path: its folder.
        step: steps that are done.
        state: what the run stored beside.
    """

    path: Path
    step: int
    state: Mapping[str, Any]

    @property
    def policy(self) -> Path:
        """The model folder."""
        return self.path / "policy"

    def learner_state(self) -> dict[str, Any]:
        """Returns what `save` was given."""
        state: dict[str, Any] = torch.load(self.path / "learner.pt", weights_only=True)
        return state


def save(
    run: Path,
    step: int,
    model: Any,
    tokenizer: Any,
    learner_state: Mapping[str, Any],
    state: Mapping[str, Any],
    *,
    weights: Mapping[str, Any] | None = None,
    beside: Sequence[Path] = (),
    keep: int = 2,
) -> Checkpoint:
    """Writes a checkpoint atomically, points `run/policy` at it and drops older ones.

    Args:
        run: folder of the run.
        step: steps that are done.
        model: has `save_pretrained`.
        tokenizer: has `save_pretrained`.
        learner_state: tensors and plain values.
        state: JSON values.
        weights: the model's, where they are not simply its state dict (adapters are merged into them).
        beside: files to copy into the model folder, where they exist.
        keep: how many checkpoints stay.
    """
    home = run / "checkpoints"
    home.mkdir(parents=True, exist_ok=True)
    final, temporary = home / f"step-{step:06d}", home / f".step-{step:06d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save_policy(temporary / "policy", model, tokenizer, weights)
    for file in beside:
        if file.is_file():
            shutil.copyfile(file, temporary / "policy" / file.name)
    torch.save(dict(learner_state), temporary / "learner.pt")
    (temporary / "state.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    link = run / ".policy.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("checkpoints") / final.name / "policy", target_is_directory=True)
    os.replace(link, run / "policy")
    for old in sorted(home.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(final, step, dict(state))


def save_policy(folder: Path, model: Any, tokenizer: Any, weights: Mapping[str, Any] | None = None) -> None:
    """Writes a model and its tokenizer as an ordinary Hugging Face folder, which `load_policy` takes.

    Args:
        folder: to write to.
        model: has `save_pretrained`; what is compiled in it is replaced by the plain modules.
        tokenizer: has `save_pretrained`.
        weights: the model's, where they are not simply its own, adapters merged into them.
    """
    model = plain(model)
    if weights is None and has_adapters(model):
        weights = merged_state(model)
    with without_bars():
        model.save_pretrained(folder, **({} if weights is None else {"state_dict": dict(weights)}))
        tokenizer.save_pretrained(folder)


def latest(run: Path) -> Checkpoint | None:
    """Returns the newest whole checkpoint of a run, None if there is none."""
    found = sorted((run / "checkpoints").glob("step-*/state.json"))
    if not found:
        return None
    state = json.loads(found[-1].read_text(encoding="utf-8"))
    return Checkpoint(found[-1].parent, int(state.pop("step")), state)
