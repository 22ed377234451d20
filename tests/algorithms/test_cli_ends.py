"""Runs that end at the worst of moments, and what a resumed one must not take for its own."""

import asyncio
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from test_cli_durable import STEPS, disturbed, resumes_as
from test_cli_train import arguments, assert_equal_runs, said
from turns import some_slow

from algorithms.checkpoint import found, latest
from algorithms.cli import checkpoints, main, train
from algorithms.cli.config import TrainConfig
from algorithms.learner import Snapshot, TorchLearner
from algorithms.policies.local import LocalPolicy
from algorithms.tracking import keep_steps_before
from algorithms.tracking.trees import count_trees, keep_trees_before, write_trees
from algorithms.tree import RolloutTree
from arpo_envs.core import ToolEnv

pytestmark = pytest.mark.usefixtures("wide_terminal")


def hangs_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> list[float]:
    """Makes the sampler hang in a step, and sends SIGTERM; returns when each path began to hang."""
    updates: list[int] = []
    hanging: list[float] = []
    update, generate = TorchLearner.update, LocalPolicy.generate

    def counted(self: TorchLearner, *given: Any) -> Any:
        updates.append(1)
        return update(self, *given)

    async def drawn(self: LocalPolicy, *given: Any, **options: Any) -> Any:
        if began and len(updates) == step:
            hanging.append(time.monotonic())
            if len(hanging) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(1000.0)
        return await generate(self, *given, **options)

    began: list[int] = []
    usual = train.keep_steps_before
    monkeypatch.setattr(train, "keep_steps_before", lambda *given: (began.append(1), usual(*given))[1])

    monkeypatch.setattr(TorchLearner, "update", counted)
    monkeypatch.setattr(LocalPolicy, "generate", drawn)
    return hanging


# --- signals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", some_slow([1, STEPS], {STEPS}))
def test_a_signal_while_it_saves_lets_it_finish_that(at, finished, tiny_policy, tmp_path, monkeypatch, capsys):
    run, kind = tmp_path / "run", TorchLearner if at == STEPS else Snapshot  # all but the last one is written meanwhile
    save = kind.save

    def pestered(self: Any, folder: Path) -> None:
        if latest(run) is None or at == STEPS:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, folder)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "save", pestered)
        assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", steps=STEPS)) == 143
    assert "Saved. Continue with" in said(capsys)
    assert latest(run).step == at
    resumes_as(finished, run)


def test_the_first_ctrl_c_waits_for_nothing_but_the_step(finished, tiny_policy, tmp_path, monkeypatch, capsys):
    """After the step comes what may take long: new weights wait for all that is collected ahead with older ones."""
    run, load = tmp_path / "run", LocalPolicy.load

    async def hanging(self: LocalPolicy, weights: Any, version: int) -> None:
        if version == 2:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(20.0)
            raise AssertionError("it waits")
        await load(self, weights, version)

    with monkeypatch.context() as patched:
        patched.setattr(LocalPolicy, "load", hanging)
        assert main(arguments(tiny_policy, run, "--checkpoint-every", "9", steps=STEPS)) == 130
    assert "Saved. Continue with" in said(capsys)
    assert latest(run).step == 2
    resumes_as(finished, run)


@pytest.mark.slow
def test_a_signal_in_the_first_step_does_not_say_that_anything_was_saved(tiny_policy, tmp_path, monkeypatch, capsys):
    hangs_in_step(monkeypatch, 0)
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, steps=STEPS)) == 143
    assert f"Interrupted. Continue with: arpo train --resume {run}" in said(capsys)
    assert latest(run) is None


@pytest.mark.slow
def test_a_signal_without_room_to_save_says_so(tiny_policy, tmp_path, monkeypatch, capsys):
    usual, save = resource.getrlimit(resource.RLIMIT_FSIZE), checkpoints.save

    def crowded(*given: Any, **options: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
        try:
            return save(*given, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)

    hangs_in_step(monkeypatch, 2)
    monkeypatch.setattr(checkpoints, "save", crowded)
    assert main(arguments(tiny_policy, tmp_path / "run", "--checkpoint-every", "9", steps=STEPS)) == 2
    told = said(capsys)
    assert "the checkpoint of step 2 could not be written" in told
    assert "Saved." not in told


def test_what_was_done_is_saved_before_environments_are_closed(tiny_policy, tmp_path, monkeypatch):
    hanging = hangs_in_step(monkeypatch, 1)
    order: list[str] = []
    close, save = ToolEnv.close, checkpoints.save

    def slow(self: ToolEnv) -> None:
        order.extend(["closed"] if hanging else [])
        close(self)

    monkeypatch.setattr(ToolEnv, "close", slow)
    monkeypatch.setattr(checkpoints, "save", lambda *given, **options: (order.append("saved"), save(*given, **options))[1])
    options = ("--checkpoint-every", "9", "--verify-every", "0")  # the sampler hangs in rollouts, not when it is checked
    assert main(arguments(tiny_policy, tmp_path / "run", *options, steps=STEPS)) == 143
    assert order[0] == "saved"
    assert order.count("saved") == 1
    assert order.count("closed") > 1


# --- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_update_that_moved_nothing_is_an_update_all_the_same(tiny_policy, tmp_path, monkeypatch):
    """The next one deals its minibatches differently: the state after it is not that before it."""
    words = ("--minibatches", "2", "--checkpoint-every", "9")
    step, write = TorchLearner._step, train.write_trees

    def untaught(self: TorchLearner, trees: Any, rows: Any, part: Any, loss: Any, aggregation: Any) -> Any:
        part = [] if self.place[1] == 1 else part
        return step(self, trees, rows, part, loss, aggregation)

    def full(file: Path, trees: Any) -> None:
        if file.exists() and count_trees(file) == 4:
            raise RuntimeError("the second step cannot be written down")
        write(file, trees)

    monkeypatch.setattr(TorchLearner, "_step", untaught)
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main(arguments(tiny_policy, whole, *words, steps=4)) == 0
    with monkeypatch.context() as patched:
        patched.setattr(train, "write_trees", full)
        with pytest.raises(RuntimeError, match="second step"):
            main(arguments(tiny_policy, run, *words, steps=4))
    resumes_as(whole, run)


@pytest.mark.parametrize("file", some_slow(["before.json", "after.json"], {"before.json"}))
def test_what_was_measured_and_is_damaged_is_measured_again(file, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    (run / file).write_bytes(b'{"sam')
    resumes_as(finished, run)


def test_a_file_is_cut_back_without_room_for_a_copy(tmp_path):
    file, trees = tmp_path / "metrics.jsonl", tmp_path / "trees.jsonl.zst"
    file.write_text("".join(json.dumps({"step": step, "text": "y" * 1000}) + "\n" for step in range(9)))
    write_trees(trees, [RolloutTree(os.urandom(1000).hex(), {"step": step}) for step in range(9)])
    index = trees.with_name("trees.jsonl.zst.index")
    index.write_bytes(index.read_bytes() * 999)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, usual[1]))
    try:
        keep_steps_before(file, 8)
        keep_trees_before(trees, 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert len(file.read_text().splitlines()) == 8
    assert (count_trees(trees), index.stat().st_size) == (8, 64)
    assert {path.name for path in tmp_path.iterdir()} == {file.name, trees.name, index.name}


# --- what is not this run's ----------------------------------------------------------------------------------


def test_a_fresh_run_leaves_the_checkpoints_of_another_alone(finished, tiny_policy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    (run / "checkpoints" / "step-000003" / "learner" / ".metadata").write_bytes(b"")
    before = sorted(run.rglob("*"))
    assert main(arguments(tiny_policy, run)) == 2
    assert sorted(run.rglob("*")) == before


def test_a_disk_that_does_not_answer_is_no_damage(finished, tmp_path, monkeypatch):
    def stale(folder: Path) -> Any:
        raise OSError(116, "Stale file handle")

    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    with monkeypatch.context() as patched:
        patched.setattr(found, "checksums", stale)
        with pytest.raises(OSError, match="Stale"):
            latest(run)
    assert latest(run).step == STEPS


def test_checkpoints_are_in_the_order_of_their_steps(finished, tmp_path):
    home = tmp_path / "run" / "checkpoints"
    for number, old in ((999_999, 2), (1_000_000, 3)):
        shutil.copytree(finished / "checkpoints" / f"step-{old:06d}", home / f"step-{number}")
    assert latest(tmp_path / "run").path.name == "step-1000000"


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [(), ("--lora", "2")])
def test_another_model_is_not_taken_for_the_one_the_run_began_with(adapters, finished, tiny_policy, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, *adapters, steps=1)) == 0
    if not adapters:
        shutil.rmtree(run / "checkpoints")
    assert main(["train", "--resume", str(run), "--policy", str(finished / "checkpoints" / "step-000003" / "policy")]) == 2
    assert "is not the model that the run began with" in said(capsys)
    assert main(["train", "--resume", str(run), "--policy", str(tiny_policy)]) == 0


def test_a_name_that_is_not_there_is_not_looked_for_further_up(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    assert main(["train", "--resume", "another-run"]) == 2
    assert "another-run does not belong to a run: there is no such file or folder" in said(capsys)


def test_what_lies_in_no_run_is_explained(tiny_policy, capsys):
    assert main(["train", "--resume", str(tiny_policy)]) == 2
    assert "does not belong to a run: there is no config.json of `arpo train` in it or above it" in said(capsys)


def test_paths_among_an_environments_arguments_are_kept_from_the_root(tiny_policy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.jsonl").write_text("{}")
    (tmp_path / "train").mkdir()
    words = ("path=questions.jsonl", "split=train", "hops=2")
    config = TrainConfig(policy=str(tiny_policy), env_args=words).resolved()
    assert config.env_args == (f"path={tmp_path / 'questions.jsonl'}", "split=train", "hops=2")


@pytest.mark.slow
def test_the_steps_asked_for_are_compared_with_those_that_are_done(tiny_policy, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        disturbed(patched, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert main(arguments(tiny_policy, run, steps=9)) == 143
    assert main(["train", "--resume", str(run), "--steps", "2"]) == 2
    assert "The run already has 2 steps" in said(capsys)
    assert main(["train", "--resume", str(run), "--steps", "3"]) == 0
    shorter = tmp_path / "shorter"
    assert main(arguments(tiny_policy, shorter, steps=3)) == 0
    assert_equal_runs(shorter, run)
