"""Checkpoints: whole or not there at all, whatever kills the process in between."""

import json
import os
import resource
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from model_toys import stored_state
from torch.distributed.checkpoint.api import CheckpointException

from algorithms.checkpoint import (
    Best,
    Checkpoint,
    Unsaved,
    best,
    best_policy,
    latest,
    save,
    save_best,
    save_policy,
    save_together,
    saving,
)
from algorithms.durable import as_it_was
from algorithms.learner import state
from algorithms.learner.on_ranks import OnRanks
from algorithms.models.loading import load_policy
from arpo_envs import ConfigError


class Folder:
    """Stands for a model and for a tokenizer: saves one file."""

    def __init__(self, name: str, text: str = "", *, fails: bool = False) -> None:
        self.name, self.text, self.fails = name, text, fails

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.name).write_text(self.text, encoding="utf-8")
        if self.fails:
            raise OSError("the disk is full")


class Learner:
    """Stands for a learner: has one tensor to save."""

    def __init__(self, step: int, moments: int) -> None:
        self.step, self.moments = step, moments

    def save(self, folder: Path) -> None:
        state.write(folder, {"moment": torch.full((self.moments,), float(self.step))})


def saved(run: Path, step: int, **options) -> Checkpoint:
    model = Folder("model.txt", f"weights {step}", fails=options.pop("fails", False))
    learner = Learner(step, options.pop("moments", 2))
    return save(run, step, model, Folder("tokenizer.txt"), learner, {"seconds": step / 2}, **options)


def kept_best(run: Path, step: int, *, fails: bool = False) -> None:
    save_best(run, Best(step, step / 2), Folder("model.txt", f"weights {step}", fails=fails), Folder("tokenizer.txt"))


def steps(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))


def test_what_was_saved_is_found_again(tmp_path):
    assert latest(tmp_path) is None
    written = saved(tmp_path, 3)
    found = latest(tmp_path)
    assert found == written
    assert (found.step, found.state) == (3, {"seconds": 1.5})
    assert torch.equal(stored_state(found.learner)["moment"], torch.tensor([3.0, 3.0]))
    assert (found.policy / "model.txt").read_text(encoding="utf-8") == "weights 3"
    assert (found.policy / "tokenizer.txt").is_file()


def test_the_last_two_stay_and_the_policy_is_the_newest(tmp_path):
    for step in (9, 10, 100):
        saved(tmp_path, step)
        assert (tmp_path / "policy" / "model.txt").read_text(encoding="utf-8") == f"weights {step}"
    assert steps(tmp_path) == ["step-000010", "step-000100"]
    assert latest(tmp_path).step == 100
    saved(tmp_path, 101, keep=1)
    assert steps(tmp_path) == ["step-000101"]


def test_the_policy_link_is_relative_so_that_a_run_can_be_moved(tmp_path):
    saved(tmp_path / "here", 1)
    os.rename(tmp_path / "here", tmp_path / "there")
    assert (tmp_path / "there" / "policy" / "model.txt").is_file()
    assert not os.path.isabs(os.readlink(tmp_path / "there" / "policy"))


def test_a_step_can_be_saved_again(tmp_path):
    saved(tmp_path, 1)
    saved(tmp_path, 1)
    assert steps(tmp_path) == ["step-000001"]
    assert latest(tmp_path).step == 1


CRASHES = {
    "the weights": None,
    "the optimizer": (state, "write"),
    "the state": (saving, "checksums"),
    "the rename": (os, "replace"),
    "the link": (Path, "symlink_to"),
}


@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_in_the_middle_leaves_the_older_checkpoint(where, tmp_path, monkeypatch):
    saved(tmp_path, 1)

    def crash(*arguments: object, **options: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        if CRASHES[where] is not None:
            patched.setattr(*CRASHES[where], crash)
        with pytest.raises(OSError, match=r"killed|full"):
            saved(tmp_path, 2, fails=where == "the weights")

    found = latest(tmp_path)
    assert found.step == (2 if where == "the link" else 1), "it is whole before the link is made"
    moment = stored_state(found.learner)["moment"]
    assert torch.equal(moment, torch.full((2,), float(found.step)))
    assert (tmp_path / "policy" / "model.txt").read_text(encoding="utf-8") == "weights 1"

    saved(tmp_path, 2)
    assert steps(tmp_path) == ["step-000001", "step-000002"]
    assert (tmp_path / "policy" / "model.txt").read_text(encoding="utf-8") == "weights 2"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("step", [2, 1])
@pytest.mark.parametrize("where", [where for where in CRASHES if where != "the optimizer"])
def test_a_crash_in_the_middle_leaves_the_best_policy_before_it(where, step, tmp_path, monkeypatch):
    saved(tmp_path, 1)
    kept_best(tmp_path, 1)

    def crash(*arguments: object, **options: object) -> None:
        raise OSError("killed")

    crashes = CRASHES | {"the state": (best_policy, "asdict")}
    with monkeypatch.context() as patched:
        if crashes[where] is not None:
            patched.setattr(*crashes[where], crash)
        with pytest.raises(OSError, match=r"the best policy, that of step .*, could not be written"):
            kept_best(tmp_path, step, fails=where == "the weights")
    assert best(tmp_path) == Best(1, 0.5)
    assert (tmp_path / "best" / "model.txt").read_text(encoding="utf-8") == "weights 1"

    kept_best(tmp_path, step)
    assert best(tmp_path) == Best(step, step / 2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [f"best-{step:06d}", "step-000001"]
    assert latest(tmp_path).step == 1, "the best policy is no checkpoint"


@pytest.mark.parametrize("text", ["", "[]", '{"step": 1}', '{"ste'])
def test_a_damaged_score_counts_as_none_and_is_written_again(text, tmp_path):
    kept_best(tmp_path, 1)
    (tmp_path / "best" / "best.json").write_text(text, encoding="utf-8")
    assert best(tmp_path) is None
    kept_best(tmp_path, 1)
    assert best(tmp_path) == Best(1, 0.5)


def test_half_a_checkpoint_is_not_taken_for_one(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-000002").mkdir()  # somebody copied half a run
    assert latest(tmp_path).step == 1


def test_state_is_json_and_the_step_is_in_it(tmp_path):
    file = saved(tmp_path, 4).path / "state.json"
    assert json.loads(file.read_text(encoding="utf-8")) == {"step": 4, "seconds": 2.0}


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_policy(tmp_path)


def test_a_policy_is_read_in_float32_and_writes_back_the_same(tiny_policy, tmp_path, capfd):
    model, tokenizer = load_policy(tiny_policy)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    save_policy(tmp_path / "copy", model, tokenizer)
    again, _ = load_policy(tmp_path / "copy")
    assert all(torch.equal(left, right) for left, right in zip(model.parameters(), again.parameters(), strict=True))
    assert capfd.readouterr() == ("", ""), "no bars of other people"


def test_a_disk_that_is_full_when_the_learner_is_written_is_told_and_nothing_is_left(tmp_path):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, usual[1]))  # more than the policy takes, and less than the learner
    try:
        with pytest.raises(Unsaved, match="the checkpoint of step 1 could not be written"):
            saved(tmp_path, 1, moments=10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_signal_while_the_learner_is_written_stays_a_signal():
    with pytest.raises(KeyboardInterrupt), as_it_was():
        raise CheckpointException("ranks", {0: (KeyboardInterrupt(), traceback.StackSummary())})


def test_what_an_earlier_version_left_half_written_is_removed(tmp_path):
    left = tmp_path / "checkpoints" / ".step-000007.tmp"
    left.mkdir(parents=True)
    saved(tmp_path, 8)
    assert not left.exists()


class Late(Learner):
    """Stands for ranks that were to be ended: they write on while others of the same run save."""

    def save(self, folder: Path) -> None:
        saved(folder.parent.parent.parent, 2)
        super().save(folder)


def test_a_checkpoint_that_somebody_else_is_writing_is_not_removed(tmp_path):
    save(tmp_path, 1, Folder("model.txt", "weights 1"), Folder("tokenizer.txt"), Late(1, 2), {})
    for step in (1, 2):
        assert (tmp_path / "checkpoints" / f"step-00000{step}" / "policy" / "model.txt").read_text() == f"weights {step}"
    assert latest(tmp_path).step == 2
    assert not list((tmp_path / "checkpoints").glob(".*"))


class OneOfTwo(OnRanks):
    """Stands for a learner on two ranks, in threads."""

    def __init__(self, number: int, told: list, meeting: threading.Barrier) -> None:
        self.number, self.told, self.meeting = number, told, meeting

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def save_pretrained(self, folder: Path) -> None:
        self.together(lambda: folder.mkdir(parents=True), only_first=True)

    def _gathered(self, found):
        self.told[self.number] = found
        self.meeting.wait(30.0)  # all have told
        everyones = list(self.told)
        self.meeting.wait(30.0)  # all have read
        return everyones


def test_where_no_folder_can_be_made_every_rank_says_so(tmp_path):
    (tmp_path / "checkpoints").write_text("A file is in the way.")
    told, meeting = [None, None], threading.Barrier(2)

    def save_on(number: int) -> str:
        with pytest.raises(Unsaved) as caught:
            save_together(tmp_path, 1, Folder("tokenizer.txt"), OneOfTwo(number, told, meeting), {})
        return str(caught.value)

    with ThreadPoolExecutor(2) as ranks:
        assert all("could not be written to" in said for said in ranks.map(save_on, range(2)))


class Orphaned(Learner):
    """Stands for ranks whose main process was killed: whenever somebody else saves, they write where they were told to."""

    told: ClassVar[list[Path]] = []

    def save(self, folder: Path) -> None:
        for old in self.told:
            old.mkdir(parents=True, exist_ok=True)
            (old / "late").write_text("of the run that was killed")
        super().save(folder)
        if not self.told:
            self.told.append(folder)
            raise KeyboardInterrupt  # leaves everything as SIGKILL does


def test_what_ranks_of_a_killed_run_still_write_gets_into_no_checkpoint_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(Orphaned, "told", [])
    model, tokenizer = Folder("model.txt", "weights"), Folder("tokenizer.txt")
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1, model, tokenizer, Orphaned(1, 2), {})
    for step in (1, 2):
        save(tmp_path, step, model, tokenizer, Orphaned(step, 2), {})
        assert [path.name for path in tmp_path.rglob("late") if ".new-" not in str(path)] == []
    assert Orphaned.told[0].parent.exists()
    saved(tmp_path, 3)
    assert not list((tmp_path / "checkpoints").glob(".*")), "it is removed"
