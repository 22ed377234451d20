"""`arpo train --cluster`: runs whose rollouts are elsewhere are, bit for bit, the run of one process; and what is refused."""

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_once import made_once
from test_cli_train import SMALL, exit_status, logged, said

from algorithms.cli import main
from algorithms.cli.config import TrainConfig
from algorithms.cli.placement import Placement
from algorithms.cli.progress import Progress
from algorithms.cluster import COUNTS, Standing
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
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(["train", "--dry-run", *words]) == 2
    assert why in said(capsys)


def test_engines_in_front_of_a_server_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:9 is a server, which has its own\."):
        TrainConfig(policy="http://127.0.0.1:9", placement=Placement("ray"))


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
    assert "3 of 9 prompts done: 1 of 2 engines alive, 4 prompts waiting, 1 asked again" in text


# --- whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_process(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the run that all others must equal."""

    def train(run: Path) -> None:
        assert main(arguments(tiny_policy, run)) == 0

    return made_once(tmp_path_factory, "one-process", train)


def assert_same(run: Path, one: Path) -> None:
    for name in ("trees.jsonl.zst", "before.json", "after.json"):
        assert (run / name).read_bytes() == (one / name).read_bytes(), name
    assert len(list(read_trees(run / "trees.jsonl.zst"))) == 8
    lines = [{name: value for name, value in line.items() if name not in COUNTS} for line in logged(run)]
    assert lines == logged(one)
    assert not (run / "cluster").exists()
    assert not (run / "ray-folder").exists()
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


DRIVER = """
import asyncio, os, signal, sys
sys.path[:0] = {here!r}
from cluster_toys import Weightless, engines
from pathlib import Path

async def run():
    async with engines(Weightless(Path(sys.argv[1]))) as policy:
        print(*(engine.worker.process.pid for engine in policy.fleet.all), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(run())
"""


@pytest.mark.slow
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(here=HERE), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    for _ in range(600):
        if not any(map(lives, workers)):
            return
        time.sleep(0.1)
    pytest.fail(f"{workers} outlive the process that started them")


def lives(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
