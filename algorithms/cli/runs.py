"""Runs of `arpo train` as parts of something larger: begun, continued or left alone, side by side in processes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from arpo_envs import ConfigError

_PAUSE = 0.2
"""Seconds between two looks at the processes."""
_LAST_LINES = 12


@dataclass(frozen=True)
class Run:
    """A run of `arpo train`.

    Args:
        folder: its --output.
        words: all its other options.
        after: a run that has to be finished before this one begins.
    """

    folder: Path
    words: tuple[str, ...]
    after: "Run | None" = None

    @property
    def is_finished(self) -> bool:
        """Whether it has left its summary."""
        return (self.folder / "summary.json").is_file()

    def words_to_finish(self) -> list[str]:
        """Returns the command that begins or continues it; what a killed one left behind before it began is removed."""
        if (self.folder / "config.json").is_file():
            return ["train", "--resume", str(self.folder)]
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        return ["train", "--output", str(self.folder), *self.words]

    def require_finished(self, status: int, command: str, log: Path | None = None) -> None:
        """Checks that it is finished.

        Args:
            status: exit status of its process.
            command: that continues it, for the message.
            log: what its process said; None if it was said in the terminal.

        Raises:
            ConfigError: it is not.
        """
        if status == 0 and self.is_finished:
            return
        again = f"call `{command}` again, which continues from there."
        wrong = f"The run {self.folder} left no summary.json (exit status {status}), so it did not finish."
        if log is None:
            raise ConfigError(f"{wrong} Fix any mistake it names above, then {again}")
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])
        raise ConfigError(f"{wrong} Fix any mistake it names, then {again} The end of {log}:\n{last}")


def train_all(
    runs: Sequence[Run],
    parallel: int,
    *,
    command: str,
    locked: int,
    look: Callable[[Sequence[Run]], None],
    done: Callable[[Run], None],
) -> None:
    """Trains all runs that are not finished, each in a process of its own, which ends when this process does.

    Args:
        runs: in the order in which they begin; each after the one it waits for.
        parallel: how many at once.
        command: that continues them, for messages.
        locked: a file descriptor that each process holds open.
        look: is called with the runs that are under way, again and again.
        done: is called with each run that has finished.

    Raises:
        ConfigError: a run did not finish; the others were told to stop, and save what they have.
    """
    waiting = [run for run in runs if not run.is_finished]
    busy: list[tuple[Run, subprocess.Popen[bytes]]] = []
    with _stopping(busy):
        while waiting or busy:
            for run in _ready(waiting, parallel - len(busy)):
                waiting.remove(run)
                busy.append((run, _started(run, locked)))
            look([run for run, _ in busy])
            time.sleep(_PAUSE)
            for run, process in [one for one in busy if one[1].poll() is not None]:
                busy.remove((run, process))
                run.require_finished(process.returncode, command, log_of(run))
                done(run)


def log_of(run: Run) -> Path:
    """Returns the file for what a run's process says."""
    return run.folder.with_name(f"{run.folder.name}.log")


def tied(words: Sequence[str]) -> list[str]:
    """Returns the command line of an `arpo` command that ends with this process."""
    return [sys.executable, "-m", f"{__package__}.tied", str(os.getpid()), *words]


def _ready(waiting: Sequence[Run], free: int) -> list[Run]:
    return [run for run in waiting if run.after is None or run.after.is_finished][: max(0, free)]


def _started(run: Run, locked: int) -> "subprocess.Popen[bytes]":
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with log_of(run).open("ab") as log:
        words = tied(run.words_to_finish())
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(locked,))


@contextmanager
def _stopping(busy: "Sequence[tuple[Run, subprocess.Popen[bytes]]]") -> Iterator[None]:
    """Tells processes to save and end if anything goes wrong, and waits until they have."""
    try:
        yield
    finally:
        for _, process in busy:
            process.terminate()
        for _, process in busy:
            process.wait()
