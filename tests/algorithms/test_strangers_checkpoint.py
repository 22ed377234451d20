"""A checkpoint of somebody else's: whatever pickles it holds, none of their code is run."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from sharded_ranks import TREES, Case, one_step

from algorithms.checkpoint import latest, save
from algorithms.durable import checksums
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.models.loading import load_policy
from arpo_envs import ConfigError


class Writes:
    """Writes a file when it is unpickled by whoever trusts it.

    Args:
        file: to write.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def learner() -> TorchLearner:
    return TorchLearner(tiny_model(), LearnerConfig(learning_rate=1e-2), reference=True, values=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Gives a run with one checkpoint."""
    trained = learner()
    one_step(Case("any", trees=TREES[:1]), trained)
    save(tmp_path / "run", 1, trained.model, byte_tokenizer(), trained, {})
    return tmp_path / "run"


def plant(run: Path, name: str, written: Path) -> None:
    """Adds a pickle to a checkpoint, whose manifest knows it."""
    checkpoint = run / "checkpoints" / "step-000001"
    if name.endswith((".pt", ".bin")):
        torch.save({"counts": [1, 1, 0], "optimizer": Writes(written)}, checkpoint / name)
    else:
        (checkpoint / name).write_bytes(pickle.dumps(Writes(written)))
    vouch(checkpoint)


def vouch(checkpoint: Path) -> None:
    """Writes the manifest of what is there."""
    (checkpoint / "manifest.json").unlink(missing_ok=True)
    (checkpoint / "manifest.json").write_text(json.dumps(checksums(checkpoint)), encoding="utf-8")


def test_pickles_among_the_files_of_a_checkpoint_are_not_read(run: Path, tmp_path: Path) -> None:
    written, told = tmp_path / "written", list[str]()
    for name in ("learner/.metadata", "learner/extra.pt", "policy/pytorch_model.bin", "policy/training_args.bin"):
        plant(run, name, written)
    with (run / "checkpoints/step-000001/learner/.metadata").open("rb") as file:
        pickle.load(file)
    assert written.exists(), "it would be written if one of them was read"
    written.unlink()
    done = latest(run, told.append)
    assert done is not None
    load_policy(done.policy)
    again = learner()
    again.load(done.learner)
    assert again.place == (1, 1)
    assert not written.exists()
    assert told == []


def test_a_state_of_an_earlier_version_is_put_aside_if_it_holds_code(run: Path, tmp_path: Path) -> None:
    written = tmp_path / "written"
    plant(run, "learner.pt", written)
    with pytest.raises(ConfigError, match=r"step-000001: learner\.pt cannot be read: UnpicklingError"):
        latest(run)
    assert not written.exists()


def test_a_state_of_an_earlier_version_is_read_and_that_is_told(run: Path) -> None:
    told, checkpoint = list[str](), run / "checkpoints" / "step-000001"
    torch.save({"counts": [1, 1, 0]}, checkpoint / "learner.pt")
    vouch(checkpoint)
    assert latest(run, told.append) is not None
    (checkpoint / "manifest.json").unlink()
    assert latest(run, told.append) is not None
    assert len(told) == 2
    assert told[0].startswith("Checkpoint step-000001 holds learner.pt, as earlier versions wrote it: a pickle, of which only")


def test_tensors_of_a_device_that_is_not_here_are_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = run / "checkpoints" / "step-000001"
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    torch.save({"counts": torch.ones(3)}, checkpoint / "learner.pt")
    monkeypatch.undo()
    vouch(checkpoint)
    found = latest(run)
    assert found is not None
    assert found.path == checkpoint
