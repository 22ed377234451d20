"""`arpo train` saves while it goes on: without room it does without a checkpoint, and if it is killed it has the one before."""

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_cli_durable import STEPS, resumes_as
from test_cli_train import arguments, assert_equal_runs, exit_status, said
from turns import some_slow

from algorithms.checkpoint import latest, saving
from algorithms.cli import checkpoints, main
from algorithms.learner import TorchLearner

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.mark.parametrize("words", some_slow(["", "--wait-for-checkpoints"], {""}))
def test_a_run_goes_on_without_a_checkpoint_for_which_there_is_no_room(
    words, finished, tiny_policy, tmp_path, monkeypatch, capsys
):
    run, found = tmp_path / "run", []
    usual, save = resource.getrlimit(resource.RLIMIT_FSIZE), checkpoints.save

    def crowded(run: Path, step: int, *given: Any, **options: Any) -> Any:
        if step != 2:
            return save(run, step, *given, **options)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, usual[1]))
        try:
            return save(run, step, *given, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
            found.append(latest(run).step)

    monkeypatch.setattr(checkpoints, "save", crowded)
    assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", *words.split(), steps=STEPS)) == 0
    assert found == [1]
    assert "the checkpoint of step 2 could not be written to" in (told := said(capsys))
    assert "Older ones are intact. The run goes on." in told
    assert latest(run).step == STEPS
    assert_equal_runs(finished, run)


def test_a_run_on_a_disk_that_stays_full_ends_and_what_was_saved_before_goes_on(
    finished, tiny_policy, tmp_path, monkeypatch, capsys
):
    run, tried = tmp_path / "run", []
    usual, save = resource.getrlimit(resource.RLIMIT_FSIZE), checkpoints.save

    def crowded(run: Path, step: int, *given: Any, **options: Any) -> Any:
        tried.append(step)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000 if step > 1 else usual[0], usual[1]))
        try:
            return save(run, step, *given, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)

    monkeypatch.setattr(checkpoints, "save", crowded)
    assert exit_status([*arguments(tiny_policy, run, "--checkpoint-every", "1", steps=50), "--wait-for-checkpoints"]) == 2
    assert tried == [1, 2, 3, 4, 4], "and once more before the end"
    told = said(capsys)
    assert "Steps that are not saved: 2. After 3 failed checkpoints in a row, it ends." in told
    assert "3 checkpoints in a row could not be written, so the run ends. A file may not grow further" in told
    assert "Step 4 could not be saved either" in told
    monkeypatch.setattr(checkpoints, "save", save)
    assert latest(run).step == 1
    assert main(["train", "--resume", str(run), "--steps", str(STEPS)]) == 0
    assert_equal_runs(finished, run)


@pytest.mark.turns("error")
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")])
def test_a_run_without_memory_for_a_copy_waits_for_its_checkpoints(error, finished, tiny_policy, tmp_path, monkeypatch, capsys):
    run, asked, usual = tmp_path / "run", [], TorchLearner.snapshot

    def snapshot(learner: TorchLearner) -> Any:
        asked.append(learner.place)
        if len(asked) == 2:
            raise error
        return usual(learner)

    monkeypatch.setattr(TorchLearner, "snapshot", snapshot)
    assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", steps=STEPS)) == 0
    assert len(asked) == 2, "not again"
    assert said(capsys).count("There is no memory for a copy of the weights, so the run waits for its checkpoints") == 1
    assert_equal_runs(finished, run)


def test_a_run_without_memory_to_write_a_copy_waits_for_its_checkpoints(finished, tiny_policy, tmp_path, monkeypatch, capsys):
    run, calls, usual = tmp_path / "run", [], saving.checksums

    def checksums(folder: Path) -> Any:
        calls.append(folder)
        if len(calls) == 2:
            raise MemoryError
        return usual(folder)

    monkeypatch.setattr(saving, "checksums", checksums)
    assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", steps=STEPS)) == 0
    told = said(capsys)
    assert told.count("There was not enough memory to write a checkpoint. The run goes on.") == 1
    assert told.count("so the run waits for its checkpoints from now on") == 1
    assert_equal_runs(finished, run)


KILLED = """
import os, signal, sys
from algorithms.checkpoint import saving
from algorithms.cli import main
usual, calls = saving.checksums, []

def killed(folder):
    calls.append(folder)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(folder)

saving.checksums = killed
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_run_that_is_killed_while_a_checkpoint_is_written_beside_it_goes_on_from_the_one_before(
    finished, tiny_policy, tmp_path
):
    run = tmp_path / "run"
    words = arguments(tiny_policy, run, "--checkpoint-every", "1", steps=STEPS)
    assert subprocess.run([sys.executable, "-c", KILLED, *words], check=False).returncode == -signal.SIGKILL
    assert list(run.glob("checkpoints/.*")), "it was being written"
    assert latest(run).step == 1
    resumes_as(finished, run)
    assert not list(run.glob("checkpoints/.*"))
