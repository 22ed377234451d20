"""Checkpoints: written beside, then renamed, so that a killed run always finds a whole one.

run/checkpoints/step-000040/policy/      an ordinary Hugging Face folder
run/checkpoints/step-000040/learner.pt   optimizer
run/checkpoints/step-000040/state.json   how far the run is
run/policy -> checkpoints/step-000040/policy
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arpo_envs import ConfigError


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
    """Writes a model and its tokenizer as an ordinary Hugging Face folder; with other weights than its own if given."""
    with _without_bars():
        model.save_pretrained(folder, **({} if weights is None else {"state_dict": dict(weights)}))
        tokenizer.save_pretrained(folder)


def latest(run: Path) -> Checkpoint | None:
    """Returns the newest whole checkpoint of a run, None if there is none."""
    found = sorted((run / "checkpoints").glob("step-*/state.json"))
    if not found:
        return None
    state = json.loads(found[-1].read_text(encoding="utf-8"))
    return Checkpoint(found[-1].parent, int(state.pop("step")), state)


def load_policy(folder: Path) -> tuple[Any, Any]:
    """Returns (model, tokenizer) of a Hugging Face folder, in float32, from disk alone.

    Raises:
        ConfigError: the folder is no model folder.
    """
    from transformers import AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} is not a model folder: it has no config.json.")
    with _without_bars():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model, load_tokenizer(folder)


def load_tokenizer(folder: Path) -> Any:
    """Returns the tokenizer of a Hugging Face folder, from disk alone.

    Raises:
        ConfigError: there is none in it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"{folder} has no tokenizer that transformers can read: {reason}") from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps `transformers` from drawing bars for single files into our own display."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
