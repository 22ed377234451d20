"""`arpo train --cluster ray --learners 2 --ahead 1`: engines and ranks share a cluster that is started for the run."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from disaster_toys import nothing_left
from test_ahead_on_ranks import ahead, assert_same_run, run_of
from test_cli_train import logged, same
from test_cluster_learners import started

from algorithms.checkpoint import latest
from algorithms.models.loading import load_policy
from algorithms.tracking.trees import read_trees

__all__ = ["run_of"]

ON_RAY = ["--cluster", "ray", "--engines", "2", "--checkpoint-every", "1"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("wide_terminal")
def test_a_run_ahead_on_ray_that_is_killed_goes_on_as_the_undisturbed_one_on_this_machine_and_leaves_nothing(
    run_of: Callable[[int], Path], tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    run, undisturbed = tmp_path / "run", run_of(2)
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # or workers wait for all other tests
    with tempfile.TemporaryDirectory(prefix="a") as short, nothing_left(Path(short)):  # the paths of Ray's sockets are long
        process = started([*ahead(tiny_policy, run), *ON_RAY], run, 1)
        while not list((run / "checkpoints").glob("step-*")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.kill()
        process.communicate()  # returns when all have ended that write to its terminal
        if process.returncode == -signal.SIGKILL:  # else this machine was so busy that the run had ended before
            assert list(Path(short).glob("arpo-ray-*")), "which the next start removes"
        done = latest(run)
        assert done is not None
        previous = done.previous()
        assert previous is not None
        assert done.step > 1 or same(dict(previous), load_policy(tiny_policy)[0].state_dict())
        command = [sys.executable, "-m", "algorithms.cli", "train", "--resume", str(run)]
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stdout + again.stderr
    assert_same_run(run, undisturbed)
    trees = list(read_trees(run / "trees.jsonl.zst"))
    versions = {(tree.meta["step"], node.policy_version) for tree in trees for node in tree.nodes if any(node.sampled)}
    assert versions == {(0, 0), (1, 0), (2, 1)}
    lines = logged(run)
    assert [line["staleness"] for line in lines] == [0.0, 1.0, 1.0]
    assert lines[0]["mismatch_kl"] < lines[2]["mismatch_kl"], "older weights are corrected for"
    assert lines[0]["effective_sample_size"] > lines[2]["effective_sample_size"]
