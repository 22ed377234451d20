"""Runs scenarios in confined processes: a small program that the tests of the isolation start once.

It reads one JSON request a line, plays the server (namespaces, a supervisor that answers forks) and the
session (confined, then the scenario), and writes one JSON line. It imports the isolation as the server
does, as a package of its own, and has one thread.
"""

import array  # noqa: F401  # used when descriptors are sent
import codecs
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from typing import Any, NoReturn

sys.path[:0] = [sys.argv[1], os.path.dirname(os.path.abspath(__file__))]
from isolation_attempts import SCENARIOS  # noqa: E402
from server import isolation  # noqa: E402  # as the server does
from server.forking import Forker  # noqa: E402
from server.isolation import capabilities, notifications  # noqa: E402

del sys.path[:2]

_PATIENCE = 60.0


def main() -> None:
    _warm()
    for line in sys.stdin:
        request = json.loads(line)
        folder = tempfile.mkdtemp(prefix="isolation-")
        try:
            os.chown(folder, request["user"], request["user"])
            answer = _played(request, folder)
        finally:
            shutil.rmtree(folder)
        print(json.dumps(answer), flush=True)  # noqa: T201


def _warm() -> None:
    """Imports now what a user who cannot read this interpreter's files could not import later."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        SCENARIOS["work"]()
        os.chdir(before)
    for name in ("ascii", "idna", "utf_8"):
        codecs.lookup(name)
    del sys.modules["colorsys"]


def _played(request: dict[str, Any], folder: str) -> dict[str, Any]:
    """Runs one request in a child and returns its answer; the child is dead afterwards."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _in_child(request, folder, writing)
    os.close(writing)
    answer = b""
    deadline = time.monotonic() + _PATIENCE
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(reading, 1 << 16)
        if not piece:
            break
        answer += piece
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads(answer or b'{"defect": "no answer"}')  # type: ignore[no-any-return]  # the program's own words


def _in_child(request: dict[str, Any], folder: str, writing: int) -> NoReturn:
    try:
        try:
            answer = _as_server(request, folder)
        except BaseException as error:  # the test shall see what happened
            answer = {"defect": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _as_server(request: dict[str, Any], folder: str) -> dict[str, Any]:
    if request["user"] != os.geteuid():
        os.setgroups([])
        os.setresgid(request["user"], request["user"], request["user"])
        os.setresuid(request["user"], request["user"], request["user"])
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable again, as a process of this user would be from its start
    layers = isolation.Layers(**request["layers"])
    readable, workdir, processes = isolation.python_paths(), folder, -1
    paths, listable = (readable.paths, []) if layers.namespaces else readable.without_hidden()
    if layers.namespaces:
        root = isolation.PrivateRoot(readable.folders, readable.packages, readable.hidden)
        processes = isolation.enter_namespaces(root)
        workdir = f"{root.work}/0123456789abcdef"
        os.chmod(root.work, 0o311)
        os.mkdir(workdir)
        os.chmod(root.work, 0o111)
        isolation.mount_workdir(workdir, megabytes=4, inodes=32)
    policy = isolation.Policy(paths, listable, workdir, 1 << 30, 600, 1 << 20, 64, layers)
    ours, theirs = socket.socketpair()
    session = os.fork()
    if not session:
        ours.close()
        if processes >= 0:
            os.close(processes)
        _as_session(request, policy, theirs)
    theirs.close()
    with ours:
        return _supervise(request, ours, session)


def _supervise(request: dict[str, Any], ours: socket.socket, session: int) -> dict[str, Any]:
    """Answers forks until the session's socket ends; returns what it said and what it asked."""
    _, files, _, _ = socket.recv_fds(ours, 1, 1)
    listener = files[0] if files else -1
    poll = select.poll()
    for file in (ours.fileno(), *files):
        poll.register(file, select.POLLIN)
    said, asked = b"", 0
    while True:
        ready = dict(poll.poll())
        if ready.get(listener, 0) & select.POLLIN:  # not at POLLHUP: nobody would ever ask
            notification = notifications.receive(listener)
            if notification is not None:
                asked += 1
                notifications.answer(listener, notification.id, asked <= request["forks"])
        elif ours.fileno() in ready:
            piece = ours.recv(1 << 16)
            if not piece:
                break
            said += piece
        else:
            poll.unregister(listener)
    status = os.waitstatus_to_exitcode(os.waitpid(session, 0)[1])
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()  # its forks, which are children of this process as well
    return {"asked": asked, "status": status, "result": json.loads(said) if said else None}


def _as_session(request: dict[str, Any], policy: Any, theirs: socket.socket) -> NoReturn:
    try:
        fork = Forker()
        os.chdir(policy.writable)
        listener = isolation.confine(policy)
        if listener is None:
            theirs.sendall(b" ")
        else:
            socket.send_fds(theirs, [b" "], [listener])
            os.close(listener)
        for _ in range(request["generations"]):
            if fork():
                os._exit(0)
        try:
            result = {"value": SCENARIOS[request["scenario"]](**request["arguments"])}
        except BaseException as error:  # as above
            result = {"error": f"{type(error).__name__}: {error}", "errno": getattr(error, "errno", None)}
        theirs.sendall(json.dumps(result).encode())
    except BaseException as error:  # as above
        theirs.sendall(json.dumps({"defect": f"{type(error).__name__}: {error}"}).encode())
    finally:
        os._exit(0)


def _held() -> list[int]:
    return list(capabilities.held())


SCENARIOS["held_capabilities"] = _held

if __name__ == "__main__":
    main()
