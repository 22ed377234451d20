"""The other side of `worker`: a process that runs one function on arguments that a model or a stranger wrote.

It is started as a script, imports nothing of this suite by itself, and is confined before the first call: a limit on
memory, no files written, and an audit hook that refuses processes, sockets and foreign code. Requests are pickled by the
trusted side; replies are JSON.

Both sides send and receive by the functions here, as a script cannot import a neighbour: a message is four bytes of length,
then its body. The interpreter's channel (`tools/python/server/frames.py`) is not for here: it writes the same, but by a call
that is refused, and carries files and credentials too.
"""

import contextlib
import importlib
import json
import os
import pickle
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

with contextlib.suppress(ImportError):  # on Windows, where a host imports this file but no process gets far
    import resource

MEMORY_BYTES = 4 * 2**30
_REFUSED = (
    *("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "os.kill", "os.putenv", "os.unsetenv"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate"),
    *("os.utime", "os.chflags", "os.lockf", "os.setxattr", "os.removexattr", "os.chdir"),
    *("signal.pthread_kill", "pty.", "socket.", "subprocess."),
    *("ctypes.", "shutil.", "tempfile.", "urllib.", "http.", "ftplib.", "smtplib.", "sqlite3.", "mmap.", "resource."),
    *(
        "code.__new__",
        "function.__new__",
        "cpython.run_",
        "sys.addaudithook",
        "sys.remote_exec",
        "webbrowser.",
    ),
)
_HEADER = struct.Struct(">I")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class TooLong(Exception):
    """A message is announced that is longer than allowed; nothing of its body has been read."""


def send(connection: socket.socket, body: bytes) -> None:
    """Sends a message.

    Args:
        connection: a stream socket; its own timeout holds for the whole message.
        body: what it says, less than 4 GiB.

    Raises:
        TimeoutError: it was not sent in time.
        OSError: the other side is gone.
    """
    connection.sendall(_HEADER.pack(len(body)) + body)


def receive(connection: socket.socket, *, limit: int | None = None, deadline: float | None = None) -> bytes | None:
    """Returns the next message and reads nothing beyond it; None when the other side ends, before a message or within one.

    Args:
        connection: a stream socket.
        limit: bytes in the longest message that is accepted; None accepts any.
        deadline: when to give up, as a reading of `time.monotonic()`; None leaves it to the socket's own timeout.

    Raises:
        TooLong: it is longer than that.
        TimeoutError: it has not come completely by then; what has come of it is lost.
        OSError: the connection is broken.
    """
    header = _exactly(connection, _HEADER.size, deadline)
    if header is None:
        return None
    (length,) = _HEADER.unpack(header)
    if limit is not None and length > limit:
        raise TooLong(f"{length} bytes; at most {limit} are allowed")
    return _exactly(connection, length, deadline)


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytes | None:
    pieces = bytearray()
    while len(pieces) < count:
        if deadline is not None:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = connection.recv(count - len(pieces))
        if not piece:
            return None
        pieces += piece
    return bytes(pieces)


def main() -> int:
    """Serves requests on the socket that is standard input, until it closes."""
    connection = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    paths, name, modules = pickle.loads(receive(connection) or b"")
    sys.path[:] = paths
    sys.dont_write_bytecode = True
    try:
        for module in ("ctypes", *modules):  # what a library may import later, and could not import once confined
            importlib.import_module(module)
        function = _load(name)
    except Exception as error:  # noqa: BLE001  # whatever an import raises is the answer
        _reply(connection, {"error": f"{type(error).__name__}: {error}"})
        return 1
    _confine()
    _reply(connection, {"value": True})
    while (request := receive(connection)) is not None:
        _reply(connection, _answer(function, request))
    return 0


def _load(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    if not callable(function):
        raise TypeError(f"{name} is not a function")
    return function  # type: ignore[no-any-return]


def _answer(function: Callable[..., Any], request: bytes) -> dict[str, Any]:
    """Runs one call; beyond its share of processor time the kernel ends this process, whatever it is doing."""
    try:
        arguments, seconds = pickle.loads(request)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        value = function(*arguments)
        return {"value": value if value is None or isinstance(value, bool | int | dict) else float(value)}
    except Exception as error:  # noqa: BLE001  # hostile arguments may raise anything
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _confine() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses what no checker needs: a second wall behind libraries whose parsers evaluate text as Python."""
    if event == "open":
        path, mode, flags = arguments
        wants = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if wants or (isinstance(flags, int) and flags & _WRITES) or str(path).startswith(("/proc", "/dev", "/sys")):
            raise PermissionError("a checker may not do that")
    elif event.startswith(_REFUSED):
        raise PermissionError("a checker may not do that")


def _reply(connection: socket.socket, message: dict[str, Any]) -> None:
    send(connection, json.dumps(message).encode())


if __name__ == "__main__":
    sys.exit(main())
