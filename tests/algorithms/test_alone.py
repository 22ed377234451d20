"""One command at a time on a run or a file: who is kept away, for how long, and from what."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from algorithms.cli.alone import alone, taken
from arpo_envs import ConfigError

WORKER = """
import os, sys, time
from pathlib import Path
from algorithms.cli.alone import alone

with alone(Path(sys.argv[1])):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_another_command_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with alone(tmp_path):
        with (
            pytest.raises(ConfigError, match="Another command is at work on the answers: wait"),
            alone(tmp_path, Path("the answers")),
        ):
            pass
        with pytest.raises(ConfigError, match=f"at work on {tmp_path}"), alone(tmp_path):
            pass
    with alone(tmp_path):
        assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_lock_of_a_killed_command_is_free_even_if_a_worker_outlives_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            with pytest.raises(ConfigError), alone(tmp_path):
                pass
            process.kill()
            process.wait()
            os.kill(worker, 0)  # it is alive
            with alone(tmp_path):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_where_there_are_no_locks_or_nothing_to_lock_nobody_is_kept_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alone(tmp_path / "missing"), alone(tmp_path / "missing"):
        pass

    def flock(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert taken(-1)
    with alone(tmp_path), alone(tmp_path):
        pass
