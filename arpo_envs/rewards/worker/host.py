"""A separate process in which a function may hang, crash or eat memory without harm.

There is one for each function and host process, started when first needed, kept, and replaced if it had to be killed.
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
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import ConfigError, ToolFault
from .process import TooLong, receive, send

START_SECONDS = 120.0
"""Wall time within which a worker must have imported its function; a loaded machine may need long for sympy."""
MAX_REPLY = 65536
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

    >>> worker = Worker("math:sqrt")
    >>> worker.call((9,), seconds=5.0)
    3.0
    >>> worker.close()
    """

    def __init__(self, function: str, modules: Sequence[str] = (), longest: int = MAX_REPLY) -> None:
        self.function, self.modules, self.longest = function, tuple(modules), longest
        self._lock = threading.Lock()
        self._live: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def call(self, arguments: Sequence[object], *, seconds: float, wall: float | None = None) -> Any:
        """Returns what the function returns: a number, a truth value, None, or a dictionary as JSON would return it.

        Args:
            arguments: picklable.
            seconds: of processor time that end the call.
            wall: seconds of wall time that end it as well; None for four times as many and five more.

        Raises:
            ConfigError: the function cannot be imported.
            Overrun: it took too long, or its process died; the next call starts another one.
            Raised: it raised an exception.
            ToolFault: no process can be started.
        """
        request = pickle.dumps((tuple(arguments), seconds))
        with self._lock:
            process, connection = self._live or self._start()
            reply = self._exchange(process, connection, request, 4 * seconds + 5 if wall is None else wall)
        if "error" in reply:
            raise Raised(str(reply["error"]))
        return reply.get("value")

    def close(self) -> None:
        """Ends the process; the next call starts another one."""
        with self._lock:
            self._stop()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        script = str(Path(__file__).with_name("process.py"))
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-I", script],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_ENVIRONMENT,
                )
        except OSError as error:
            ours.close()
            raise ToolFault(f"Cannot start a process to run {self.function} in: {error}.") from error
        self._live = (process, ours)
        self._finalizer = weakref.finalize(self, _end, process, ours, os.getpid())
        paths = [os.path.abspath(path or os.curdir) for path in sys.path]
        try:
            reply = self._exchange(process, ours, pickle.dumps((paths, self.function, self.modules)), START_SECONDS)
        except Overrun as error:
            raise ToolFault(f"The process that runs {self.function} did not start: {error}.") from error
        if "error" in reply:
            self._stop()
            raise ConfigError(f"Cannot import {self.function!r} to run it in a process of its own: {reply['error']}")
        return process, ours

    def _exchange(
        self, process: subprocess.Popen[bytes], connection: socket.socket, request: bytes, seconds: float
    ) -> dict[str, Any]:
        """Sends a request and waits for its reply; kills the process if anything is wrong with it."""
        try:
            deadline = time.monotonic() + seconds
            connection.settimeout(seconds)
            send(connection, request)
            body = receive(connection, limit=self.longest, deadline=deadline)
            if body is None:
                raise ConnectionError("the process is gone")
            reply = json.loads(body)
        except TooLong:
            self._stop()
            raise Overrun("sent too much") from None
        except (OSError, ValueError) as error:
            self._stop()
            overran = isinstance(error, TimeoutError) or process.returncode == -signal.SIGPROF
            raise Overrun("timeout" if overran else f"its process died ({process.returncode})") from error
        except BaseException:  # an interrupt: the reply would be taken for that of the next call
            self._stop()
            raise
        if not isinstance(reply, dict):
            self._stop()
            raise Overrun("sent something strange")
        return reply

    def _stop(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._live = self._finalizer = None


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
def _of_process(function: str, modules: tuple[str, ...], longest: int, pid: int) -> Worker:
    """One per host process: a forked child finds none under its own id."""
    return Worker(function, modules, longest)


def shared_worker(function: str, modules: Sequence[str] = (), *, longest: int = MAX_REPLY) -> Worker:
    """Returns this process's worker for a function, with the arguments of `Worker`."""
    return _of_process(function, tuple(modules), longest, os.getpid())
