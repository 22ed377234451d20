"""A run never loses what it earned: signals, errors, full disks, dying trackers, damaged checkpoints, moved folders."""

import asyncio
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli_train import arguments, assert_equal_runs, logged, said, started, weights
from tracker_toys import planted
from turns import some_slow

from algorithms.checkpoint import latest
from algorithms.cli import main, tracked, train
from algorithms.learner import TorchLearner
from algorithms.policies.local import LocalPolicy
from algorithms.tracking import Guarded

pytestmark = pytest.mark.usefixtures("wide_terminal")
STEPS = 3


def disturbed(monkeypatch: pytest.MonkeyPatch, trouble: Callable[[], None], name: str = "log_all", at: int = 1) -> Any:
    """Makes trouble when a function of `arpo train` is called for the n-th time, before it does its work."""
    calls: list[int] = []
    place: Any = tracked if name == "log_all" else train
    usual = getattr(place, name)

    def troubled(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == at + 1:
            trouble()
        return usual(*given, **options)

    monkeypatch.setattr(place, name, troubled)


def resumes_as(whole: Path, run: Path) -> None:
    assert main(["train", "--resume", str(run)]) == 0
    assert_equal_runs(whole, run)


# --- signals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", some_slow(["SIGTERM", "SIGHUP", "SIGINT"], {"SIGTERM"}))
def test_a_signal_in_a_step_saves_that_step_and_the_rest_is_as_if_undisturbed(
    name, finished, tiny_policy, tmp_path, monkeypatch, capsys
):
    run, number = tmp_path / "run", getattr(signal, name)
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        disturbed(patched, lambda: os.kill(os.getpid(), number))
        assert main(arguments(tiny_policy, run, "--checkpoint-every", "9", steps=STEPS)) == 128 + number
    assert f"Saved. Continue with: arpo train --resume {run}" in said(capsys)
    assert latest(run).step == len(logged(run)) == 2
    assert signal.getsignal(number) is before
    resumes_as(finished, run)


@pytest.mark.parametrize("names", some_slow(["SIGTERM", "SIGINT SIGINT", "SIGHUP SIGHUP"], ()))
def test_a_signal_among_the_rollouts_of_a_step_saves_the_steps_before_it(
    names, finished, tiny_policy, tmp_path, monkeypatch, capsys
):
    run, update = tmp_path / "run", TorchLearner.update
    numbers = [getattr(signal, name) for name in names.split()]
    status = 128 + numbers[0]
    updates: list[int] = []

    def counted(self: TorchLearner, *given: Any) -> Any:
        updates.append(1)
        return update(self, *given)

    async def generate(self: Any, *given: Any, **options: Any) -> Any:
        if len(updates) == 2:
            while numbers:
                os.kill(os.getpid(), numbers.pop(0))
                await asyncio.sleep(0)
            await asyncio.sleep(60.0)
        return await usual(self, *given, **options)

    usual = LocalPolicy.generate
    with monkeypatch.context() as patched:
        patched.setattr(TorchLearner, "update", counted)
        patched.setattr(LocalPolicy, "generate", generate)
        assert main(arguments(tiny_policy, run, "--checkpoint-every", "9", steps=STEPS)) == status
    assert f"Continue with: arpo train --resume {run}" in said(capsys)
    assert latest(run).step == len(logged(run)) == 2
    resumes_as(finished, run)


@pytest.mark.parametrize("name", some_slow(["SIGTERM", "SIGHUP"], ()))
def test_a_signal_before_the_first_step_ends_the_run_where_it_is(name, finished, tiny_policy, tmp_path, monkeypatch, capsys):
    run, number = tmp_path / "run", getattr(signal, name)
    with monkeypatch.context() as patched:
        disturbed(patched, lambda: os.kill(os.getpid(), number), "evaluate", at=0)
        assert main(arguments(tiny_policy, run, steps=STEPS)) == 128 + number
    assert f"Interrupted. Continue with: arpo train --resume {run}" in said(capsys)
    resumes_as(finished, run)


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_so(tiny_policy, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        disturbed(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert main(arguments(tiny_policy, tmp_path / "run")) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_process_that_is_terminated_saves_and_says_how_to_go_on(tiny_policy, tmp_path):
    run = tmp_path / "run"
    with started(arguments(tiny_policy, run, "--checkpoint-every", "1000000", steps=100_000)) as process:
        try:
            deadline = time.monotonic() + 60
            while not (run / "metrics.jsonl").is_file() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143, errors
    assert f"Continue with: arpo train --resume {run}" in " ".join(output.split())
    assert latest(run).step == len(logged(run)) >= 1
    assert "Traceback" not in errors


# --- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", some_slow(["before the update", "after its first step"], ()))
def test_an_error_in_a_step_saves_the_steps_before_it_or_leaves_what_was_saved(
    where,
    finished,
    tiny_policy,
    tmp_path,
    monkeypatch,
):
    run = tmp_path / "run"
    update = TorchLearner.update
    calls: list[int] = []

    def fails(self: TorchLearner, *given: Any) -> Any:
        calls.append(1)
        if len(calls) < 3:
            return update(self, *given)
        if where == "after its first step":
            update(self, *given)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(TorchLearner, "update", fails)
        with pytest.raises(RuntimeError, match="out of memory") as caught:
            main(arguments(tiny_policy, run, "--checkpoint-every", "1" if where != "before the update" else "9", steps=STEPS))
    assert caught.value.__notes__ == [f"The run is saved as step 2. Continue with: arpo train --resume {run}"]
    assert latest(run).step == 2
    resumes_as(finished, run)


@pytest.mark.slow
def test_weights_that_cannot_be_given_to_the_policy_are_saved_all_the_same(
    finished,
    tiny_policy,
    tmp_path,
    monkeypatch,
):
    run, load = tmp_path / "run", LocalPolicy.load

    async def fails(self: LocalPolicy, given: Any, version: int) -> None:
        if version == 2:
            raise ConnectionError("the engine is gone")
        await load(self, given, version)

    with monkeypatch.context() as patched:
        patched.setattr(LocalPolicy, "load", fails)
        with pytest.raises(ConnectionError):
            main(arguments(tiny_policy, run, "--checkpoint-every", "9", steps=STEPS))
    assert latest(run).step == len(logged(run)) == 2
    resumes_as(finished, run)


# --- trackers ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "what"),
    [
        *((where, "fail") for where in ("init", "log", "summary", "table", "close")),
        *((w, "hang") for w in ("init", "log", "close")),
    ],
)
def test_a_tracker_that_fails_or_hangs_costs_nothing(where, what, finished, tiny_policy, tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.setattr(tracked, "WandbTracker", partial(planted, tmp_path / "calls", where, what))
    monkeypatch.setattr(tracked, "Guarded", partial(Guarded, patience=5.0))
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", "--track", "wandb", steps=STEPS)) == 0
    trouble = "wandb failed and is not used any more" if what == "fail" else "wandb had not finished after 5 s and was ended"
    assert said(capsys).count(trouble) == 1
    calls = [line.split()[0] for line in (tmp_path / "calls").read_text(encoding="utf-8").splitlines()]
    assert calls[-1] == where
    assert calls.count(where) == 1
    assert_equal_runs(finished, run)


def test_a_tracker_gets_everything_before_it_is_closed(finished, tiny_policy, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setattr(tracked, "WandbTracker", partial(planted, tmp_path / "calls", "", ""))
    assert main(arguments(tiny_policy, tmp_path / "run", "--track", "wandb", steps=1)) == 0
    assert [line.split(" ")[:2] for line in (tmp_path / "calls").read_text(encoding="utf-8").splitlines()] == [
        ["init"], ["summary", "['before/greedy',"], ["table", "held_out"],
        ["log", "0"], ["table", "rollouts"], ["table", "entropy_around_results"],
        ["summary", "['after/closed_book',"], ["table", "held_out"],
        ["file", "summary.json"], ["file", "training.png"], ["file", "report.html"], ["close"]]  # fmt: skip


# --- damage --------------------------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "gone": lambda file: file.unlink(),
    "overwritten": lambda file: file.write_bytes(bytes(reversed(file.read_bytes()))),
}
LEARNER = "learner/shard-00001-model-00001-of-00001.safetensors"
FILES = [
    "policy/model.safetensors",
    "policy/config.json",
    LEARNER,
    "state.json",
    "manifest.json",
]


DAMAGED = [f"{file} {damage}" for file, damage in [*((f, "cut") for f in FILES), *zip(FILES, DAMAGE, strict=False)]]


@pytest.mark.parametrize("damaged", some_slow(dict.fromkeys(DAMAGED), {f"{LEARNER} cut"}))
def test_a_damaged_newest_checkpoint_is_passed_over(damaged, finished, tmp_path, capsys):
    file, damage = damaged.split()
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    DAMAGE[damage](run / "checkpoints" / "step-000003" / file)
    for name in ("after.json", "summary.json"):
        (run / name).unlink()
    resumes_as(finished, run)
    assert "Checkpoint step-000003 is damaged" in said(capsys)
    assert os.readlink(run / "policy") == "checkpoints/step-000003/policy"
    assert latest(run).step == STEPS


def test_if_all_checkpoints_are_damaged_each_is_named(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    for number in (2, 3):
        DAMAGE["cut"](run / "checkpoints" / f"step-{number:06d}" / LEARNER)
    assert main(["train", "--resume", str(run)]) == 2
    told = said(capsys)
    assert "No checkpoint of" in told
    assert f"step-000003: {LEARNER} is not what was written; step-000002: {LEARNER}" in told


def test_a_checkpoint_without_a_manifest_is_taken_if_it_can_be_read(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    for manifest in run.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
        shutil.rmtree(manifest.with_name("learner"))
        torch.save({"counts": [1, 1, 0]}, manifest.with_name("learner.pt"))
    assert latest(run).step == STEPS
    DAMAGE["cut"](run / "checkpoints" / "step-000003" / "learner.pt")
    assert latest(run).step == 2


# --- full disks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", some_slow([2_000, 60_000], ()))
def test_a_full_disk_leaves_what_was_saved(limit, finished, tiny_policy, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with monkeypatch.context() as patched:
            disturbed(patched, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1])), "write_trees", at=2)
            assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", steps=STEPS)) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    told = said(capsys)
    assert "A file may not grow further" in told or "A file could not be written in full" in told
    assert f"arpo train --resume {run}" in told
    assert latest(run).step == 2
    assert not list(run.glob("checkpoints/.*"))
    resumes_as(finished, run)


# --- moved, named otherwise, extended --------------------------------------------------------------------------


def interrupted(policy: Path, run: Path, monkeypatch: pytest.MonkeyPatch, name: str = "log_all", at: int = 1) -> None:
    with monkeypatch.context() as patched:
        disturbed(patched, lambda: os.kill(os.getpid(), signal.SIGTERM), name, at)
        assert main(arguments(policy, run, steps=STEPS)) == 143


@pytest.mark.slow
def test_a_run_goes_on_without_the_folder_of_its_model(finished, tiny_policy, tmp_path, monkeypatch):
    run, model = tmp_path / "run", tmp_path / "model"
    shutil.copytree(tiny_policy, model)
    interrupted(model, run, monkeypatch)
    shutil.rmtree(model)
    resumes_as(finished, run)


@pytest.mark.slow
def test_a_run_that_saved_nothing_says_where_it_looked_for_its_model_and_takes_another_place(
    finished,
    tiny_policy,
    tmp_path,
    monkeypatch,
    capsys,
):
    run, model = tmp_path / "run", tmp_path / "model"
    shutil.copytree(tiny_policy, model)
    interrupted(model, run, monkeypatch, "evaluate", at=0)
    model.rename(tmp_path / "moved")
    assert main(["train", "--resume", str(run)]) == 2
    assert f"--policy {model} is not a model folder" in (told := said(capsys))
    assert f"arpo train --resume {run} --policy FOLDER" in told
    assert main(["train", "--resume", str(run), "--policy", str(tmp_path / "moved")]) == 0
    assert_equal_runs(finished, run)


@pytest.mark.slow
def test_a_run_goes_on_from_another_directory_and_place(finished, tiny_policy, tmp_path, monkeypatch):
    shutil.copytree(tiny_policy, tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    interrupted(Path("model"), Path("run"), monkeypatch)
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path / "here" / "run", tmp_path / "elsewhere")
    resumes_as(finished, Path("elsewhere"))


INSIDE = ["policy", "config.json", "checkpoints", "checkpoints/step-000002/policy", "metrics.jsonl"]


@pytest.mark.parametrize("inside", some_slow(INSIDE, {"policy"}))
def test_what_lies_in_a_run_stands_for_the_run(inside, finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    assert main(["train", "--resume", str(run / inside)]) == 0
    assert f"{run}/: summary.json" in said(capsys)


@pytest.mark.slow
def test_a_finished_run_is_extended_to_what_a_longer_one_is(finished, tiny_policy, tmp_path, capsys):
    run, longer = tmp_path / "run", tmp_path / "longer"
    shutil.copytree(finished, run, symlinks=True)
    assert main(["train", "--resume", str(run), "--steps", "3"]) == 2
    assert "The run already has 3 steps" in said(capsys)
    assert main(["train", "--resume", str(run), "--steps=5"]) == 0
    assert main(arguments(tiny_policy, longer, steps=5)) == 0
    assert_equal_runs(longer, run)
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["steps"] == 5


@pytest.mark.slow
def test_a_run_whose_learning_rate_has_come_to_its_end_is_not_extended(tiny_policy, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, "--decay", "linear", steps=1)) == 0
    assert main(["train", "--resume", str(run), "--steps", "4"]) == 2
    assert f"Start a new run from its policy: --policy {run} --steps 3" in said(capsys)


# --- the same bytes ------------------------------------------------------------------------------------------


def test_what_is_evaluated_before_changes_nothing_of_the_training(finished, tiny_policy, tmp_path):
    run = tmp_path / "run"
    words = [word if word != "4" or previous != "--eval-questions" else "11" for previous, word in pairs(tiny_policy, run)]
    assert main(words) == 0
    assert (run / "trees.jsonl.zst").read_bytes() == (finished / "trees.jsonl.zst").read_bytes()
    assert all((weights(run)[name] == value).all() for name, value in weights(finished).items())


def pairs(policy: Path, run: Path) -> list[tuple[str, str]]:
    words = arguments(policy, run, steps=STEPS)
    return list(zip(["", *words], words, strict=False))


@pytest.mark.slow
def test_a_run_that_ended_between_its_evaluation_and_its_first_step_goes_on_exactly(
    finished,
    tiny_policy,
    tmp_path,
    monkeypatch,
):
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        disturbed(patched, lambda: os.kill(os.getpid(), signal.SIGTERM), "keep_steps_before", at=0)
        assert main(arguments(tiny_policy, run, steps=STEPS)) == 143
    assert (run / "before.json").is_file()
    resumes_as(finished, run)
