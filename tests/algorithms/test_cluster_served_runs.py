"""`arpo train --cluster` in front of a server, with what else a cluster can do: Ray, ranks, rollouts ahead."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from server_toys import LoopbackServer
from test_cli_train import SMALL, logged, same, weights
from test_cluster_learners import assert_learned_alike, assert_nothing_left

from algorithms.cli import main
from algorithms.cluster import COUNTS
from algorithms.models.loading import load_policy
from algorithms.tracking.trees import read_trees

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("wide_terminal")]

KEY = "secret of this test"
FILES = ("trees.jsonl.zst", "before.json", "after.json")
Train = Callable[..., Path]


def here(words: list[str]) -> None:
    assert main(words) == 0


def apart(words: list[str]) -> None:
    """Runs a command in a process of its own: Ray's settings are read once per process."""
    ended = subprocess.run([sys.executable, "-m", "algorithms.cli", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def trained(tiny_policy: Path, tmp_path: Path) -> Iterator[Train]:
    """Trains with a server, which has the learned weights at the end."""
    with ExitStack() as servers:

        def train(name: str, *words: str, key: str | None = None, run_train: Callable[[list[str]], None] = here) -> Path:
            own = {"root": str(tiny_policy), "context_length": 512, "batch_invariant": True, "api_key": key}
            server = servers.enter_context(LoopbackServer(*load_policy(tiny_policy), **own))
            run = tmp_path / name
            told = ["--policy", server.url, "--output", str(run), "--steps", "2", "--threads", "1", "--adam-epsilon", "1e-2"]
            run_train(["train", *told, *SMALL, *words])
            assert same(server.weights(), weights(run))
            assert not same(weights(run), load_policy(tiny_policy)[0].state_dict())
            return run

        yield train


def assert_same_run(run: Path, one: Path) -> None:
    for name in FILES:
        assert (run / name).read_bytes() == (one / name).read_bytes(), name
    assert [{name: value for name, value in line.items() if name not in COUNTS} for line in logged(run)] == logged(one)
    assert same(weights(run), weights(one))


def test_engines_on_ray_draw_what_one_process_draws_and_the_key_stays_out_of_files(
    trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("ARPO_API_KEY", KEY)
    one = trained("one", key=KEY)
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # or workers wait for all other tests
    with tempfile.TemporaryDirectory(prefix="a") as short:  # the paths of Ray's sockets are long
        monkeypatch.setenv("TMPDIR", short)
        assert_same_run(trained("run", "--cluster", "ray", "--engines", "2", key=KEY, run_train=apart), one)
        assert list(Path(short).iterdir()) == []
    for file in (file for file in one.parent.rglob("*") if file.is_file()):
        assert KEY.encode() not in file.read_bytes(), file


def test_two_ranks_learn_what_one_process_learns(trained: Train, tiny_policy: Path) -> None:
    one, run = trained("one"), trained("run", "--cluster", "local", "--engines", "1", "--learners", "2")
    assert_learned_alike(run, one, tiny_policy)
    assert_nothing_left(run)


def test_rollouts_ahead_are_those_of_one_process(trained: Train) -> None:
    one, run = trained("one", "--ahead", "1"), trained("run", "--ahead", "1", "--cluster", "local", "--engines", "2")
    assert_same_run(run, one)
    versions = {
        (tree.meta["step"], node.policy_version)
        for tree in read_trees(run / "trees.jsonl.zst")
        for node in tree.nodes
        if any(node.sampled)
    }
    assert versions == {(0, 0), (1, 0)}
