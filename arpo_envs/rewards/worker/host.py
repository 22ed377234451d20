"""A separate process in which a function may hang, crash or eat memory without harm.

There is one for each function and host process, or a few; they are started when first needed, kept, and replaced if they had to
be killed.
"""

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import ConfigError, ToolFault
from .process import TooLong, receive, send

START_SECONDS = 120.0
"""Wall time within which a worker must have imported its function; a loaded machine may need long for sympy."""
MAX_REPLY = 65536
_LEAST = 1.0
"""Seconds of wall time that a call has at least after it had to wait: with less, it would end a process that is all right."""
_LONGEST = 86400.0
"""Seconds of wall time that a call has at most; sockets know no infinity."""
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LANG": "C.UTF-8"}


class Overrun(Exception):
    """A call took more than its time, or killed its process."""


class Raised(Exception):
    """The function raised; the message names the exception."""


class Worker:
    """Runs one function in a process of its own. Safe to share between threads; a forked child must make its own.

    Args:
        function: where to import it from, "package.module:name".
        modules: what else to import, such as the home of its arguments' classes; nothing that loads a library written
            in C may be imported during a call.
        longest: bytes in the longest reply that is accepted.
        processes: that there are at most; one is added when a call finds all busy.

    >>> worker = Worker("math:sqrt")
    >>> worker.call((9,), seconds=5.0)
    3.0
    >>> worker.close()
    """

    def __init__(self, function: str, modules: Sequence[str] = (), longest: int = MAX_REPLY, processes: int = 1) -> None:
        self.function, self.modules, self.longest, self.processes = function, tuple(modules), longest, processes
        self._free = threading.Semaphore(processes)
        self._idle: list[_Process] = []  # that used last is taken first
        self._closing = threading.Lock()

    def call(self, arguments: Sequence[object], *, seconds: float, wall: float | None = None) -> Any:
        """Returns what the function returns: a number, a truth value, None, or a dictionary as JSON would return it.

        Args:
            arguments: picklable.
            seconds: of processor time that end the call.
            wall: seconds of wall time that end it as well, those of waiting for other calls included, but after waiting it
                has a second at least; None for four times `seconds` and five more, once no other call is in the way.

        Raises:
            ConfigError: the function cannot be imported.
            Overrun: it took too long, or its process died; the next call starts another one.
            Raised: it raised an exception.
            ToolFault: no process can be started.
        """
        request = pickle.dumps((tuple(arguments), seconds))
        with self._process(None if wall is None else min(wall, _LONGEST)) as (process, left):
            reply = process.exchange(request, 4 * seconds + 5 if left is None else left, self.longest)
        if "error" in reply:
            raise Raised(str(reply["error"]))
        return reply.get("value")

    def close(self) -> None:
        """Ends the processes, those at work after their calls; the next call starts another one."""
        with self._closing:
            for _ in range(self.processes):
                self._free.acquire()
            while self._idle:
                self._idle.pop().end()
            self._free.release(self.processes)

    @contextmanager
    def _process(self, wall: float | None) -> Iterator[tuple["_Process", float | None]]:
        """Gives a process to one call, and the part of `wall` that waiting for it has left."""
        left = wall
        if not self._free.acquire(blocking=False):
            began = time.monotonic()
            if not self._free.acquire(timeout=wall):
                raise Overrun("timeout")
            left = None if wall is None else max(began + wall - time.monotonic(), _LEAST)
        process: _Process | None = None
        try:
            process = self._last() or _Process(self.function, self.modules)
            yield process, left
        finally:
            if process is not None and process.lives:
                self._idle.append(process)
            self._free.release()

    def _last(self) -> "_Process | None":
        """Takes the process that was used last, None if none is idle."""
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None


class _Process:
    """A process that has imported a function; it ends with the first exchange that goes wrong.

    Args:
        function: as in `Worker`.
        modules: likewise.

    Raises:
        ConfigError: the function cannot be imported.
        ToolFault: it cannot be started.
    """

    def __init__(self, function: str, modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        script = str(Path(__file__).with_name("process.py"))
        try:
            with theirs:
                self.program = subprocess.Popen(
                    [sys.executable, "-I", script],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_ENVIRONMENT,
                )
        except OSError as error:
            ours.close()
            raise ToolFault(f"Cannot start a process to run {function} in: {error}.") from error
        self._connection = ours
        self._finalizer = weakref.finalize(self, _end, self.program, ours, os.getpid())
        paths = [os.path.abspath(path or os.curdir) for path in sys.path]
        try:
            reply = self.exchange(pickle.dumps((paths, function, tuple(modules))), START_SECONDS, MAX_REPLY)
        except Overrun as error:
            raise ToolFault(f"The process that runs {function} did not start: {error}.") from error
        if "error" in reply:
            self.end()
            raise ConfigError(f"Cannot import {function!r} to run it in a process of its own: {reply['error']}")

    @property
    def lives(self) -> bool:
        """Whether it has not been ended here."""
        return self._finalizer.alive

    def end(self) -> None:
        """Ends it."""
        self._finalizer()

    def exchange(self, request: bytes, seconds: float, longest: int) -> dict[str, Any]:
        """Sends a request and waits for its reply; ends the process if anything is wrong with it.

        Args:
            request: what the process reads.
            seconds: of wall time for both.
            longest: bytes of a reply.

        Raises:
            Overrun: there was none in time, or something else.
        """
        try:
            deadline = time.monotonic() + seconds
            self._connection.settimeout(seconds)
            send(self._connection, request)
            body = receive(self._connection, limit=longest, deadline=deadline)
            if body is None:
                raise ConnectionError("the process is gone")
            reply = json.loads(body)
        except TooLong:
            self.end()
            raise Overrun("sent too much") from None
        except (OSError, ValueError) as error:
            self.end()
            overran = isinstance(error, TimeoutError) or self.program.returncode == -signal.SIGPROF
            raise Overrun("timeout" if overran else f"its process died ({self.program.returncode})") from error
        except BaseException:  # an interrupt: the reply would be taken for that of the next call
            self.end()
            raise
        if not isinstance(reply, dict):
            self.end()
            raise Overrun("sent something strange")
        return reply


def _end(process: subprocess.Popen[bytes], connection: socket.socket, owner: int) -> None:
    """Ends a worker; a forked child owns, and closes, only the descriptors."""
    connection.close()
    if os.getpid() != owner:
        process.returncode = 0  # not our child: nothing to wait for
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.2)  # an idle one ends at once; for a dead one we learn how it died
    process.kill()
    process.wait()


@lru_cache(maxsize=8)
def _of_process(function: str, modules: tuple[str, ...], longest: int, processes: int, pid: int) -> Worker:
    """One per host process: a forked child finds none under its own id."""
    return Worker(function, modules, longest, processes)


def shared_worker(function: str, modules: Sequence[str] = (), *, longest: int = MAX_REPLY, processes: int = 1) -> Worker:
    """Returns this process's worker for a function, with the arguments of `Worker`."""
    return _of_process(function, tuple(modules), longest, processes, os.getpid())
