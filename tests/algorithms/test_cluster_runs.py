"""`arpo train --cluster`: runs whose rollouts are elsewhere are, bit for bit, the run of one process; and what is refused."""

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster_toys import Nesting, lives
from made_once import made_once
from test_cli_train import SMALL, assert_equal_runs, exit_status, logged, said

from algorithms.checkpoint import Checkpoint, latest, point
from algorithms.cli import main
from algorithms.cli.config import TrainConfig
from algorithms.cli.elsewhere import Description
from algorithms.cli.parts import assemble
from algorithms.cli.placement import Placement
from algorithms.cli.progress import Progress
from algorithms.cli.resume import start_of
from algorithms.cli.train import TREES
from algorithms.cli.verified import checked
from algorithms.cluster import COUNTS, Ahead, Lost, LostForGood, Standing
from algorithms.cluster.local import LocalLauncher
from algorithms.learner import LoRA, TorchLearner
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.tracking.trees import read_trees
from arpo_envs import ConfigError

HERE = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
INVARIANT = ["--engine-args", "batch_invariant=True", "--threads", "1"]

pytestmark = pytest.mark.usefixtures("wide_terminal")


def arguments(policy: Path, run: Path, *more: str) -> list[str]:
    return ["train", "--policy", str(policy), "--output", str(run), "--steps", "2", *SMALL, *INVARIANT, *more]


# --- what is refused, and what is shown ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--engines", "2"], "--engines would have no effect without --cluster."),
        (["--cluster", "local", "--engines", "0"], "engines must be at least 1, got 0."),
        (["--cluster", "local", "--tools", "record"], "--tools record needs --cluster none"),
        (["--cluster", "ray", "--device", "cuda:1"], "--device cuda:1 names one GPU of a machine"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(["train", "--dry-run", *words]) == 2
    assert why in said(capsys)


def test_ray_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algorithms.cluster.launchers.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'arpo-envs\[cluster\]'"):
        Placement("ray").require()


def test_the_placement_is_a_record_of_the_configuration(tmp_path: Path) -> None:
    config = TrainConfig.of({"cluster": "local", "engines": 3})
    assert (config.placement, config.placement.count) == (Placement("local", 3), 3)
    config.save(tmp_path)
    assert TrainConfig.load(tmp_path).placement == config.placement
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del values["placement"]  # as earlier versions wrote it
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    assert TrainConfig.load(tmp_path).placement == Placement()


def test_progress_shows_engines_prompts_and_retries(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    with Progress(Console()) as progress:
        progress.listener.tell("engine 1 was lost: Its process ended.")
        progress._noted = -1e9  # nothing was printed for long
        progress.listener.show(Standing(alive=1, engines=2, done=3, under_way=2, waiting=4, retried=1))
    text = said(capsys)
    assert "engine 1 was lost: Its process ended." in text
    assert "3 of 9 prompts done: 1 of 2 engines alive, 2 prompts under way, 4 waiting, 1 asked again" in text


def test_progress_counts_the_prompts_of_each_batch() -> None:
    from rich.console import Console

    with Progress(Console()) as progress:
        for count in (9, 4, 12):
            progress.listener.show(Standing(alive=2, engines=2, done=1, under_way=count - 1, waiting=0, retried=0))
            assert [(task.completed, task.total) for task in progress._bar.tasks] == [(1, count)]


def test_a_check_during_which_an_engine_is_lost_is_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    outcomes: list[Any] = [Lost("It died."), "fine", Lost("It died."), Lost("It died."), Lost("It is gone.")]

    async def check() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with Progress(Console()) as progress:
        asyncio.run(checked(check, progress))
        with pytest.raises(Lost, match="It is gone"):
            asyncio.run(checked(check, progress))
        outcomes.append(LostForGood("The ranks of the learner were lost."))
        with pytest.raises(LostForGood):
            asyncio.run(checked(check, progress))
    assert said(capsys).count("checked again, as an engine was lost: Lost: It died.") == 3


def test_a_learner_that_is_refused_starts_no_engines(tiny_policy: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    started: list[str] = []
    config = TrainConfig.of({"policy": str(tiny_policy), "cluster": "local", "output": tmp_path}).resolved()
    assert config.learner is not None
    config = replace(config, learner=replace(config.learner, lora=LoRA(targets=("no_such_layer",))))

    def engines(config: TrainConfig, folder: Path, dialect: str) -> Any:
        started.append(dialect)

    with pytest.raises(ConfigError, match="LoRA cannot adapt"):
        asyncio.run(assemble(config, tiny_policy, engines=engines))
    assert started == []


class Closing(ScriptedPolicy):
    """Says when it is closed."""

    def __init__(self, closed: list[str]) -> None:
        super().__init__(lambda before, seed: "")
        self.closed = closed

    async def close(self) -> None:
        self.closed.append("policy")


@pytest.mark.parametrize("learners", [1, 2])
def test_what_was_opened_before_the_trainer_is_refused_is_closed_engines_first(
    learners: int, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    given = {"policy": str(tiny_policy), "cluster": "local", "learners": learners, "output": tmp_path}

    def refuse(**parts: Any) -> Any:
        raise ConfigError("The renderer's chat template rewrites earlier turns.")

    monkeypatch.setattr("algorithms.cli.parts.Trainer", refuse)
    ranks, engines = SimpleNamespace(close=lambda: closed.append("learner")), lambda *given: Closing(closed)
    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        asyncio.run(assemble(TrainConfig.of(given).resolved(), tiny_policy, engines=engines, ranks=lambda *given: ranks))  # type: ignore[arg-type, return-value]
    assert closed == ["policy", "learner"][:learners], "engines may live on the Ray cluster that was started for the learner"


def test_an_engine_in_this_process_is_closed_if_the_learner_is_refused(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    def refuse(*given: Any, **more: Any) -> Any:
        raise ConfigError("LoRA cannot adapt it.")

    monkeypatch.setattr("algorithms.cli.parts.sampler", lambda *given: Closing(closed))
    monkeypatch.setattr("algorithms.cli.parts.TorchLearner", refuse)
    with pytest.raises(ConfigError, match="LoRA cannot adapt"):
        asyncio.run(assemble(TrainConfig.of({"policy": str(tiny_policy), "output": tmp_path}).resolved(), tiny_policy))
    assert closed == ["policy"], "vLLM's processes would go on"


def test_a_machine_that_does_not_see_the_model_says_so_and_a_trial_keeps_its_files_beside_the_run(tmp_path: Path) -> None:
    config = TrainConfig.of({"cluster": "ray", "output": tmp_path / "runs" / "one"})
    with pytest.raises(FileNotFoundError, match=r"does not see .*gone, from which the run starts\. .* --policy a folder"):
        Description(config, tmp_path / "gone", "tags")()
    assert config.placement.beside(tmp_path / "runs" / "one") == tmp_path
    assert Placement("local").beside(tmp_path / "runs") is None


def test_a_run_whose_first_model_is_gone_starts_engines_from_what_stays(tmp_path: Path) -> None:
    """It goes on from its newest checkpoint, which is dropped when there are two newer ones."""
    config = TrainConfig.of({"cluster": "local", "resume": tmp_path, "output": tmp_path}).resolved()

    def gone() -> Path:
        raise ConfigError("It was moved.")

    def checkpoint(step: int) -> Checkpoint:
        policy = tmp_path / "checkpoints" / f"step-{step:06d}" / "policy"
        policy.mkdir(parents=True)
        (policy / "config.json").touch()
        return Checkpoint(policy.parent, step, {})

    found = start_of(config, tmp_path, checkpoint(1), gone)
    assert (found / "config.json").exists()
    point(tmp_path / "policy", checkpoint(2).policy)
    shutil.rmtree(tmp_path / "checkpoints" / "step-000001")
    assert (found / "config.json").exists(), "engines that are made anew need it"


# --- whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_process(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the run that all others must equal."""

    def train(run: Path) -> None:
        assert main(arguments(tiny_policy, run)) == 0

    return made_once(tmp_path_factory, "one-process", train)


def assert_same(run: Path, one: Path, trees: int = 8) -> None:
    for name in ("trees.jsonl.zst", "before.json", "after.json"):
        assert (run / name).read_bytes() == (one / name).read_bytes(), name
    assert len(list(read_trees(run / "trees.jsonl.zst"))) == trees
    lines = [{name: value for name, value in line.items() if name not in COUNTS} for line in logged(run)]
    assert lines == logged(one)
    assert not (run / "cluster").exists()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_in_two_processes_is_that_of_one_bit_for_bit(tiny_policy: Path, one_process: Path, tmp_path: Path) -> None:
    assert main(arguments(tiny_policy, tmp_path / "run", "--cluster", "local")) == 0
    assert_same(tmp_path / "run", one_process)
    assert all(line[name] == 0.0 for line in logged(tmp_path / "run") for name in COUNTS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dry_run_tries_the_engines(tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tiny_policy, tmp_path / "run", "--cluster", "local", "--engines", "1", "--dry-run")) == 0
    assert "Everything fits together" in said(capsys)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("where", "sent"),
    [("update", signal.SIGTERM), ("collect", signal.SIGTERM), ("update", signal.SIGINT), ("collect", signal.SIGINT)],
)
def test_a_run_that_collects_ahead_goes_on_as_if_it_had_never_stopped(
    where: str,
    sent: signal.Signals,
    tiny_policy: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal comes while an update is under way in its thread, or while the run waits for what is collected ahead."""
    words = ["--cluster", "local", "--engines", "1", "--ahead", "1", "--steps", "4"]

    def train(run: Path) -> None:
        assert main(arguments(tiny_policy, run, *words)) == 0

    whole, run = made_once(tmp_path_factory, "ahead", train), tmp_path / "run"
    place, name = (TorchLearner, "update") if where == "update" else (Ahead, "arrived")
    arrived, calls = Ahead.arrived, list[int]()

    async def late(self: Ahead[Any]) -> None:
        """Waits for what is collected ahead of the third step, which is a long time coming."""
        if len(calls) == 2:
            await asyncio.sleep(60.0)
        await arrived(self)

    with monkeypatch.context() as patched:
        patched.setattr(Ahead, "arrived", late)
        usual = getattr(place, name)

        def troubled(*given: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:  # of the second step
                os.kill(os.getpid(), sent)
            return usual(*given)

        patched.setattr(place, name, troubled)
        assert main(arguments(tiny_policy, run, *words)) == 128 + sent
    assert [line["step"] for line in logged(run)] == [0, 1], "the update that had begun was finished"
    found = latest(run)
    assert found is not None
    assert (found.path / "previous" / "model.safetensors").is_file()
    assert main(["train", "--resume", str(run)]) == 0
    assert_equal_runs(whole, run)
    versions = [{node.policy_version for node in tree.nodes if any(node.sampled)} for tree in read_trees(run / TREES)]
    assert versions == [{max(0, step - 1)} for step in range(4) for _ in range(4)]
    assert [line["staleness"] for line in logged(run)] == [0.0, 1.0, 1.0, 1.0]


DRIVER = """
import asyncio, os, signal, sys
sys.path[:0] = {here!r}
from cluster_toys import Nesting, Weightless, engines
from pathlib import Path

async def run():
    async with engines(Weightless(Path(sys.argv[1]) / "run"), Nesting(Path(sys.argv[1]) / "told")) as policy:
        print(*(engine.worker.process.pid for engine in policy.fleet.all), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(run())
"""


@pytest.mark.slow
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    script, nesting = tmp_path / "driver.py", Nesting(tmp_path / "told")
    nesting.told.mkdir()
    script.write_text(DRIVER.format(here=HERE), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    for _ in range(600):
        if not any(map(lives, workers)):
            break
        time.sleep(0.1)
    assert [pid for pid in workers if lives(pid)] == [], "they outlive the process that started them"
    LocalLauncher(tmp_path / "run")
    assert nesting.gone(), "the next start removes what is left"
    assert not (tmp_path / "run" / "cluster").exists()
