"""A guarded tracker harms nothing: it fails, hangs, dies or dawdles in its own process, and the run only hears of it."""

import threading
import time
from functools import partial
from pathlib import Path

import pytest
from tracker_toys import Planted

from algorithms.tracking import FILE, TABLE, Guarded, JsonlTracker

FAILED = "toy failed and is not used any more: {}. metrics.jsonl has everything."


def used(file: Path, where: str = "", what: str = "", patience: float = 60.0, steps: int = 2) -> list[str]:
    """Uses a planted tracker as a run does, and returns what people were told."""
    told: list[str] = []
    tracker = Guarded("toy", partial(Planted, file, where, what), told.append, patience=patience)
    tracker.summary({"before/greedy": 0.5})
    for step in range(steps):
        tracker.log(step, {"reward": 1.0})
    TABLE.of(tracker)("rollouts", [{"reward": 1.0}])
    FILE.of(tracker)(file)
    tracker.close()
    tracker.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name == "arpo-tracker"]
    return told


def done(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def test_it_is_given_everything_in_order(tmp_path):
    assert used(tmp_path / "calls", "log", "dawdle") == []
    assert done(tmp_path / "calls") == [
        "init",
        "summary ['before/greedy']",
        "log 0",
        "log 1",
        "table rollouts",
        "file calls",
        "close",
    ]


def wait_for(file: Path, last: str) -> None:
    """Waits until the last call that is written is a certain one."""
    while not (file.is_file() and done(file) and done(file)[-1].startswith(last)):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("where", "what", "why"),
    [
        pytest.param("init", "fail", "OSError: no network", marks=pytest.mark.slow),
        ("init", "ask", "EOFError: EOF when reading a line"),
        pytest.param("log", "leave", "SystemExit: 1", marks=pytest.mark.slow),
        pytest.param("close", "fail", "OSError: no network", marks=pytest.mark.slow),
        ("table", "die", "its process ended with status 7"),
    ],
)
def test_a_failure_is_reported_once_and_ends_it(where, what, why, tmp_path):
    assert used(tmp_path / "calls", where, what) == [FAILED.format(why)]
    assert done(tmp_path / "calls")[-1].split()[0] == where


@pytest.mark.parametrize("where", ["init", "log"])
def test_one_that_hangs_is_ended(where, tmp_path):
    told: list[str] = []
    tracker = Guarded("toy", partial(Planted, tmp_path / "calls", where, "hang"), told.append, patience=0.1)
    tracker.log(0, {"reward": 1.0})
    wait_for(tmp_path / "calls", where)
    tracker.log(1, {"reward": 1.0})
    tracker.close()
    assert [message.partition(":")[0] for message in told] == ["toy had not finished after 0.1 s and was ended"]
    assert done(tmp_path / "calls")[-1].split()[0] == where


@pytest.mark.slow
def test_one_that_hangs_at_its_end_is_ended(tmp_path):
    waiting, message = used(tmp_path / "calls", "close", "hang", patience=20.0)
    assert waiting == "waiting for toy, at most 20 s"
    assert message.startswith("toy had not finished after 20 s and was ended")
    assert done(tmp_path / "calls")[-1] == "close"


def test_nobody_waits_for_the_library_of_one_that_is_closed(tmp_path):
    assert used(tmp_path / "calls", "exit", "hang") == []
    assert done(tmp_path / "calls")[-1] == "close"


def test_more_than_the_limit_is_not_kept_in_memory_but_counted(tmp_path):
    told: list[str] = []
    tracker = Guarded("toy", partial(Planted, tmp_path / "calls", "init", "hang"), told.append, patience=0.5, limit=3)
    for step in range(1000):
        tracker.log(step, {"text": "long" * 100_000})  # a pipe takes less than one of them
    tracker.close()
    assert told[-1].startswith("toy was too slow: 99")


def test_what_a_library_prints_or_asks_does_not_get_between_and_its_own_warnings_are_passed_on(tmp_path):
    assert used(tmp_path / "calls", "log", "chatter") == ["toy: kept offline"] * 2
    assert done(tmp_path / "calls")[-1] == "close"


def test_what_cannot_be_sent_is_a_failure_too(tmp_path):
    told: list[str] = []
    tracker = Guarded("toy", partial(JsonlTracker, tmp_path / "metrics.jsonl"), told.append)
    tracker.log(0, {"reward": 1.0})
    tracker.summary({"hook": lambda: None})
    tracker.log(1, {"reward": 1.0})
    tracker.close()
    assert len(told) == 1
    assert "toy failed" in told[0]
    assert len(done(tmp_path / "metrics.jsonl")) == 1
    Guarded("toy", lambda: JsonlTracker(tmp_path / "other.jsonl"), told.append).close()
    assert "lambda" in told[1]


def test_a_run_that_was_killed_leaves_a_status(tmp_path):
    told: list[str] = []
    tracker = Guarded("toy", partial(Planted, tmp_path / "calls"), told.append)
    tracker.log(0, {})
    process = tracker._process
    tracker._requests.put(None)  # its input ends, as when the run's process is gone
    assert process.wait(60) == 1
    tracker.close()
    assert done(tmp_path / "calls") == ["init", "log 0"]
