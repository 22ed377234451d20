"""`arpo train --learners 2`: whole runs whose learner is on two ranks, beside those of one process."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster_toys import lives
from disaster_toys import descendants
from made_once import made_once
from rounding import check_equal, rounding
from test_cli_train import SMALL, exit_status, logged, said, same, weights

from algorithms.checkpoint import latest
from algorithms.cli import main
from algorithms.cli.checkpoints import Checkpoints
from algorithms.cli.config import TrainConfig
from algorithms.cli.parts import learner_config, learner_options
from algorithms.cluster.ranks import Ranks
from algorithms.learner import TorchLearner, state
from algorithms.models.loading import load_policy
from algorithms.tracking.trees import read_trees
from algorithms.tree import RolloutTree

WORDS = ("--engine-args", "batch_invariant=True", "--threads", "1", "--cluster", "local", "--engines", "1")
RECIPES = {
    "arpo": ("--adam-epsilon", "1e-2"),
    "ppo": ("--algorithm", "ppo", "--epochs", "2", "--minibatches", "2", "--adam-epsilon", "1e-2", "--eval-every", "2"),
    "lora": ("--lora", "2", "--adam-epsilon", "1e-2"),
}
STEPS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("wide_terminal")]


def words(policy: Path, run: Path, recipe: str, learners: int, steps: int = STEPS) -> list[str]:
    own = ["--policy", str(policy), "--output", str(run), "--steps", str(steps), "--learners", str(learners)]
    return ["train", *own, *SMALL, *WORDS, *RECIPES[recipe]]


@pytest.fixture(scope="module")
def run_of(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns the run of a recipe on so many ranks."""

    def made(recipe: str, learners: int) -> Path:
        def train(run: Path) -> None:
            assert main(words(tiny_policy, run, recipe, learners)) == 0

        found: Path = made_once(tmp_path_factory, f"{recipe}-{learners}", train)
        return found

    return made


def kept(run: Path) -> dict[str, torch.Tensor]:
    """Returns what a run has learned: the weights, and the value head where there is one."""
    done = latest(run)
    assert done is not None
    described = state.describe(done.learner)
    head = {name: torch.zeros(it.shape, dtype=it.dtype) for name, it in described.items() if name.startswith("value_head ")}
    state.read(done.learner, head)
    return weights(run) | head


def learned(run: Path, model: Any) -> dict[str, torch.Tensor]:
    """Returns what one process learns from the trees of a run, from the weights of a model on."""
    config = TrainConfig.load(run)
    algorithm = config.make_algorithm()
    learner = TorchLearner(model, learner_config(config), **learner_options(config))
    for _, some in groupby(read_trees(run / "trees.jsonl.zst"), lambda tree: tree.meta["step"]):
        trees = list(some)
        scores = learner.score(trees, algorithm.needs)
        learner.update(trees, algorithm.credit(trees, scores), scores, algorithm.loss, algorithm.aggregation)
    head = learner.value_head.state_dict() if learner.value_head is not None else {}
    return {**learner.weights(), **{f"value_head {name}": it for name, it in head.items()}}


def drawn(tree: RolloutTree) -> list[Any]:
    return [(node.key, node.tokens, node.reward, node.status) for node in tree.nodes]


def assert_learned_alike(run: Path, one: Path, policy: Path) -> None:
    """Asserts that a run has the trees of another one, and has learned the same from them, up to rounding."""
    trees, others = (list(read_trees(it / "trees.jsonl.zst")) for it in (run, one))
    assert [tree for tree in trees if tree.meta["step"] == 0] == [tree for tree in others if tree.meta["step"] == 0]
    assert list(map(drawn, trees)) == list(map(drawn, others)), "log-probabilities are off by a rounding; what is drawn is not"
    assert (run / "before.json").read_bytes() == (one / "before.json").read_bytes()
    torch.set_num_threads(1)
    start = load_policy(policy)[0]
    assert all(torch.equal(it, kept(one)[name]) for name, it in learned(one, load_policy(policy)[0]).items()), "replayed"
    assert not same(weights(run), start.state_dict())
    check_equal(kept(run), kept(one), rounding(lambda model: learned(one, model), start))


def assert_nothing_left(run: Path) -> None:
    assert not (run / "learners").exists()
    assert not (run / "cluster").exists()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("recipe", ["arpo", "ppo", pytest.param("lora", marks=pytest.mark.thorough)])
def test_two_ranks_train_what_one_process_trains(recipe: str, run_of: Any, tiny_policy: Path) -> None:
    one, two = run_of(recipe, 1), run_of(recipe, 2)
    assert_learned_alike(two, one, tiny_policy)
    assert logged(two)[0].keys() == logged(one)[0].keys()
    assert_nothing_left(two)


def test_a_run_goes_on_with_another_number_of_ranks(run_of: Any, tiny_policy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(words(tiny_policy, run, "ppo", 2, steps=1)) == 0
    for steps, learners in (2, 1), (STEPS, 2):
        assert main(["train", "--resume", str(run), "--steps", str(steps), "--learners", str(learners)]) == 0
    assert_learned_alike(run, run_of("ppo", 1), tiny_policy)


@pytest.mark.parametrize("moments", [("update", "take"), ("publish", "written", "save")], ids=" and ".join)
def test_a_run_whose_rank_is_killed_again_and_again_is_the_same_run(
    moments: Sequence[str],
    run_of: Any,
    tiny_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second time that ranks are to do each of these, one is killed; publishing comes twice before the first update.

    After the first two steps they write a copy of what they have learned, in two parts, while they learn; after the last one
    they save at once.
    """
    left = {"update": 2, "publish": 4, "save": 1, "take": 2, "written": 2}
    usual = Ranks.call

    def call(ranks: Ranks, method: str, *arguments: Any) -> Any:
        left[method] = left.get(method, 0) - 1
        if method in moments and left[method] == 0:
            os.kill(ranks._workers[1].process.pid, signal.SIGKILL)
        return usual(ranks, method, *arguments)

    monkeypatch.setattr(Ranks, "call", call)
    monkeypatch.setattr("algorithms.cli.parts.load_policy", None)  # the leading process holds no model
    assert main([*words(tiny_policy, tmp_path / "run", "arpo", 2), "--checkpoint-every", "1"]) == 0
    assert said(capsys).count("a rank of the learner was lost: Its process ended.") == len(moments)
    run, two = tmp_path / "run", run_of("arpo", 2)
    for name in ("trees.jsonl.zst", "before.json", "after.json"):
        assert (run / name).read_bytes() == (two / name).read_bytes(), name
    assert logged(run) == logged(two), "nothing is counted twice"
    assert same(weights(run), weights(two))
    assert_nothing_left(run)


@pytest.mark.parametrize(("full", "waiting"), [((1,), ()), ((0, 1), ("--wait-for-checkpoints",))], ids=["beside", "at once"])
def test_a_full_disk_of_ranks_costs_a_checkpoint_and_nothing_else(
    waiting: Sequence[str],
    full: Sequence[int],
    run_of: Any,
    tiny_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There is no room for the second of three checkpoints, which is written before anything else happens."""
    run, ranks, found = tmp_path / "run", list[Ranks](), list[int]()
    call, begin = Ranks.call, Checkpoints.begin

    def watched(given: Ranks, method: str, *arguments: Any) -> Any:
        ranks[:] = [given]
        return call(given, method, *arguments)

    def crowded(given: Checkpoints, step: int) -> None:
        usual = resource.getrlimit(resource.RLIMIT_FSIZE)
        pids = [ranks[0]._workers[number].process.pid for number in full if step == 2]
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (2000, usual[1]))
        try:
            begin(given, step)
            given.rest()
        finally:
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)
            done = latest(run)
            assert done is not None
            found.append(done.step)

    monkeypatch.setattr(Ranks, "call", watched)
    monkeypatch.setattr(Checkpoints, "begin", crowded)
    assert main([*words(tiny_policy, run, "arpo", 2), "--checkpoint-every", "1", *waiting]) == 0
    told = said(capsys)
    assert "the checkpoint of step 2 could not be written to" in told
    assert "Older ones are intact. The run goes on." in told
    assert "lost" not in told, "no rank waited for another one"
    assert found == [1, 1]
    two = run_of("arpo", 2)
    assert logged(run) == logged(two)
    assert same(kept(run), kept(two))
    assert_nothing_left(run)


def test_what_cannot_be_trained_is_refused_as_in_one_process(
    tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = ["--learning-rate", "1e-12"]
    assert exit_status([*words(tiny_policy, tmp_path / "run", "arpo", 2), *rate]) == 2
    assert "A step at the learning rate 1e-12 would move" in said(capsys)
    assert not (tmp_path / "run").exists()
    assert multiprocessing.active_children() == []


# --- how a run ends ------------------------------------------------------------------------------------------------


def started(command: Sequence[str], run: Path, steps: int) -> "subprocess.Popen[str]":
    """Starts a run in a session of its own; returns when it has taken so many steps."""
    process = subprocess.Popen(
        [sys.executable, "-m", "algorithms.cli", *command],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not (run / "metrics.jsonl").is_file() or len((run / "metrics.jsonl").read_text().splitlines()) < steps:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return process


def test_no_process_outlives_a_run_however_it_ends(run_of: Any, tiny_policy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(words(tiny_policy, run, "arpo", 2, steps=50), run, 1)
    others = descendants(process.pid)
    assert len(others) >= 3, "an engine and two ranks"
    os.killpg(process.pid, signal.SIGTERM)  # as schedulers do: it reaches all processes
    said = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"Saved. Continue with: arpo train --resume {run}" in " ".join(said.split())
    assert_ended(others)
    done = latest(run)
    assert done is not None
    process = started(["train", "--resume", str(run)], run, done.step + 1)
    others = descendants(process.pid)
    process.kill()
    process.communicate()
    assert_ended(others)


def assert_ended(processes: Collection[int]) -> None:
    """Waits for processes whose parent has just ended; the resource tracker of multiprocessing is a little later."""
    until = time.monotonic() + 60
    while any(map(lives, processes)) and time.monotonic() < until:
        time.sleep(0.1)
    assert [pid for pid in processes if lives(pid)] == []
