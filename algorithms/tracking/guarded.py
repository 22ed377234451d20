"""Keeps any tracker away from the run: it works in a process of its own, which may fail, hang or be slow without harm."""

import json
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..rollout import reason
from .tracker import Tracker

PATIENCE = 60.0
"""Seconds that a tracker has at the end for what it has not done yet."""
_REST = "metrics.jsonl has everything."
_LIMIT = 10_000
_UNNOTICED = 2.0


class Guarded:
    """A tracker that cannot harm the run: its methods return at once, and its first failure is reported and ends it.

    It works in a process of its own, because a thread that hangs cannot be ended, nor what a library does when the
    interpreter exits. Only `close` waits for it, until a limit. What it still has to do waits in memory.

    Args:
        name: of the tracker, for people.
        make: returns the tracker; called in the other process, so it must be picklable.
        tell: called with each message, in the thread that uses this object.
        patience: seconds that `close` waits.
        limit: how many records may wait; more are not sent, and counted.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Tracker],
        tell: Callable[[str], None],
        *,
        patience: float = PATIENCE,
        limit: int = _LIMIT,
    ) -> None:
        self._name, self._tell, self._patience, self._limit = name, tell, patience, limit
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._has_failed = False
        self._skipped = 0
        self._rest = _REST
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        try:
            first = pickle.dumps(make)
            self._start()
        except Exception as error:  # noqa: BLE001  # whatever it is, the run matters more
            self._fail(reason(error))
        else:
            self._requests.put(first)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Passes one step on."""
        self._send("log", step, dict(metrics))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Passes held-out results on."""
        self._send("summary", dict(values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Passes a table on."""
        self._send("table", name, [dict(row) for row in rows])

    def file(self, path: Path) -> None:
        """Passes the path of a file on."""
        self._send("file", path)

    def close(self) -> None:
        """Waits until everything is done, or until the limit; then ends the process, if it has not ended."""
        process = self._process
        if process is None:
            return
        self._send("close")
        self._requests.put(None)
        try:
            in_time = self._ends(process)
        finally:  # also if somebody loses patience before
            process.kill()
            process.wait()
            for thread in self._threads:
                thread.join()
            self._process = None
        self._hear()
        if not in_time:
            late = f"{self._name} had not finished after {self._patience:g} s and was ended"
            self._tell(f"{late}: the last records may be missing. {self._rest}")
        elif process.returncode and not self._has_failed:
            self._fail(f"its process ended with status {process.returncode}")
        if self._skipped:
            self._tell(f"{self._name} was too slow: {self._skipped:,} records were not sent. {_REST}")

    def _ends(self, process: "subprocess.Popen[bytes]") -> bool:
        """Waits for the process and returns whether it ended in time; if that takes long, says so."""
        if self._patience > _UNNOTICED:
            if _has_ended(process, _UNNOTICED):
                return True
            self._tell(f"waiting for {self._name}, at most {self._patience:g} s")
        return _has_ended(process, self._patience)

    def _start(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        process = self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the run, which closes its trackers
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._threads = (
            threading.Thread(target=_write, args=(process.stdin, self._requests), daemon=True, name="arpo-tracker"),
            threading.Thread(target=_read, args=(process.stdout, self._said), daemon=True, name="arpo-tracker"),
        )
        for thread in self._threads:
            thread.start()

    def _send(self, method: str, *arguments: Any) -> None:
        self._hear()
        if self._has_failed or self._process is None:
            return
        if self._requests.qsize() >= self._limit and method != "close":
            self._skipped += 1
            return
        try:
            self._requests.put(pickle.dumps((method, arguments)))
        except Exception as error:  # noqa: BLE001  # something that cannot be pickled; the run matters more
            self._fail(reason(error))

    def _hear(self) -> None:
        """Tells what the other process had to say."""
        with suppress(queue.Empty):
            while True:
                kind, text = self._said.get_nowait()
                if kind == "failed":
                    self._fail(text)
                elif kind == "later":
                    self._rest = f"{text}. {_REST}"
                else:
                    self._tell(f"{self._name}: {text}")

    def _fail(self, why: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._tell(f"{self._name} failed and is not used any more: {why}. {self._rest}")


def _has_ended(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Returns whether a process ends within some seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def _write(pipe: IO[bytes], requests: "queue.SimpleQueue[bytes | None]") -> None:
    """Writes requests until there are no more, or nobody reads them."""
    with suppress(OSError), pipe:
        while (request := requests.get()) is not None:
            pipe.write(request)
            pipe.flush()


def _read(pipe: IO[bytes], said: "queue.SimpleQueue[tuple[str, str]]") -> None:
    """Reads messages until the other process ends."""
    with pipe:
        for line in pipe:
            with suppress(ValueError):  # the last one may be cut off
                kind, text = json.loads(line)
                said.put((kind, text))
