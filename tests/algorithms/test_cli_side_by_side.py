"""Two runs at the same time on one cache: each is what it is alone, whoever calls first and whoever is killed."""

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from cached_env import ID
from test_cli_tools import FILES, logged, offline
from test_cli_train import started

from algorithms.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wide_terminal")]

STEPS = 4


def words(policy: Path, run: Path, cache: Path | None, seed: int) -> list[str]:
    small = ["--prompts", "4", "--rollouts", "6", "--eval-questions", "4", "--steps", str(STEPS), "--checkpoint-every", "1"]
    args = ["cities_per_country=4", *([f"cache={cache}"] if cache is not None else [])]
    where = ["--policy", str(policy), "--output", str(run), "--seed", str(seed)]
    return ["train", "--env", f"cached_env:{ID}", "--env-args", *args, *where, *small]


@pytest.fixture(scope="module")
def alone(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run for each seed, without a cache."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in (1, 2):
        assert main(words(tiny_policy, folder / str(seed), None, seed)) == 0
    return folder


def together(policy: Path, folder: Path, cache: Path, *seeds: int) -> list[subprocess.Popen[str]]:
    """Starts runs that wait for each other before their first search."""
    (folder / "met").mkdir()
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ARPO_TESTS_MEET": str(folder / "met")}
    return [started(words(policy, folder / f"run-{at}", cache, seed), env=found) for at, seed in enumerate(seeds)]


def assert_equal(run: Path, other: Path) -> None:
    for name in FILES:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert logged(run) == logged(other)


def assert_whole(cache: Path) -> None:
    with sqlite3.connect(cache) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_two_that_ask_the_same_at_the_same_time(alone, tiny_policy, tmp_path, monkeypatch):
    cache = tmp_path / "answers.sqlite"
    processes = together(tiny_policy, tmp_path, cache, 1, 1)
    said = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    for run in ("run-0", "run-1"):
        assert_equal(tmp_path / run, alone / "1")
    assert_whole(cache)
    made = Counter(cache.with_suffix(".made").read_text(encoding="utf-8").splitlines())
    assert {line.partition(" ")[0] for line in made} == {str(process.pid) for process in processes}, "both began with nothing"
    assert set(made.values()) == {1}, "no process asks twice"
    offline(monkeypatch)
    assert main(words(tiny_policy, tmp_path / "again", cache, 1)) == 0
    assert_equal(tmp_path / "again", alone / "1")


def test_one_that_is_killed_spoils_nothing(alone, tiny_policy, tmp_path, monkeypatch):
    cache = tmp_path / "answers.sqlite"
    killed, other = together(tiny_policy, tmp_path, cache, 1, 2)
    while not (tmp_path / "run-0" / "metrics.jsonl").is_file():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    said = other.communicate(timeout=200)
    assert other.returncode == 0, said
    assert len(logged(tmp_path / "run-0")) < STEPS
    assert main(["train", "--resume", str(tmp_path / "run-0")]) == 0
    assert_whole(cache)
    offline(monkeypatch)
    assert main(words(tiny_policy, tmp_path / "again", cache, 1)) == 0
    for run, seed in (("run-0", "1"), ("run-1", "2"), ("again", "1")):
        assert_equal(tmp_path / run, alone / seed)
