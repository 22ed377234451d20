"""Finds out what this machine offers by trying each mechanism in a process of its own.

The caller itself is never changed and never forks: all trials are children of a small interpreter that is
started for this purpose, so it does not matter how many threads the caller has.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from ..forking import FLAGS_WITH_MOUNTS, Forker
from . import capabilities, kernel, landlock, limits, mounts, namespaces, notifications, seccomp
from .own_mounts import OwnMounts, enter_user_namespace
from .private_root import PrivateRoot
from .reasons import Facts, facts, reason
from .report import (
    CAPABILITIES,
    CGROUP_NAMESPACE,
    FILTER,
    LANDLOCK,
    LIMITS,
    NAMESPACES,
    NO_NEW_PRIVS,
    OWN_MOUNTS,
    PRIVATE_ROOT,
    SUPERVISION,
    USER_NAMESPACE,
    Report,
    Row,
    from_rows,
)

_PATIENCE = 30.0
"""Seconds for one trial; each takes milliseconds."""
_STARTING = 120.0
_PR_GET_NO_NEW_PRIVS = 39


class Failed(Exception):
    """A mechanism can be enabled, but does not do what it should."""


def probe() -> Report:
    """Tries every mechanism and reports what works here, for this user; takes about a tenth of a second.

    It starts this interpreter again, so it cannot be used inside a private root.
    """
    if kernel.architecture() is None:
        machine = f"{sys.platform} on {os.uname().machine}" if hasattr(os, "uname") else sys.platform
        return _nothing(
            f"The sandbox needs Linux on x86_64 or aarch64 with a 64-bit Python; this is {machine}. Use E2B instead."
        )
    package = Path(__file__).parent  # this may be a package within a package or a top-level one: the trials use the latter
    program = (
        f"import sys; sys.path.insert(0, {str(package.parents[1])!r}); "
        f"from {package.parent.name}.{package.name} import probing; probing.main()"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_STARTING, check=True, env={}, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode("utf-8", "replace").strip().splitlines()
        return _nothing(f"The trials could not be run: {said[-1] if said else error}.")
    found = json.loads(done.stdout)
    return from_rows((Row(**row) for row in found["rows"]), found["landlock"])


def main() -> None:
    """Tries everything and writes the result to standard output; the program that `probe` starts."""
    known = facts()
    rows: dict[str, Row] = {}
    for name, what, trial in _TRIALS:
        need = _NEEDS.get(name)
        lacking = need is not None and not rows[need].active
        rows[name] = Row(name, False, what, f"It needs the {need}.") if lacking else _row(name, what, trial, known)
    sys.stdout.write(json.dumps({"rows": [asdict(row) for row in rows.values()], "landlock": _landlock_version()}))


def _row(name: str, what: str, trial: Callable[[], str | None], known: Facts) -> Row:
    failed, text = _in_child(trial)
    if not failed:
        return Row(name, True, what, text)
    return Row(name, False, what, reason(name, int(text), known) if text.isdigit() else text)


def _in_child(trial: Callable[[], str | None]) -> tuple[bool, str]:
    """Runs a trial in a child; returns whether it failed, and a detail: a remark, an error's number, or a reason."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _report(trial, writing)
    os.close(writing)
    try:
        answer = b""
        deadline = time.monotonic() + _PATIENCE
        while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(reading, 1 << 16)
            if not piece:
                break
            answer += piece
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    kind, _, text = answer.decode("utf-8", "replace").partition(" ")
    if kind not in ("works", "fails"):
        return True, "The trial did not end as it should."
    return kind == "fails", text


def _report(trial: Callable[[], str | None], writing: int) -> NoReturn:
    try:
        answer = f"works {trial() or ''}"
    except OSError as error:
        answer = f"fails {error.errno if error.errno else error}"
    except Failed as error:
        answer = f"fails {error}"
    except BaseException as error:  # noqa: BLE001  # anything else is a bug, which must be seen
        answer = f"fails {type(error).__name__}: {error}"
    try:
        os.write(writing, answer.encode())
    finally:
        os._exit(0)


def _nothing(detail: str) -> Report:
    return from_rows((Row(name, False, what, detail) for name, what, _ in _TRIALS), 0)


# --- the trials: each runs in a child of its own, and raises if the mechanism does not work ---------------


def _namespace(flag: int) -> Callable[[], None]:
    return lambda: namespaces.separate(namespaces.USER | flag)


def _private_root() -> None:
    root = PrivateRoot(())
    folder = f"{root.work}/probe"
    os.close(namespaces.enter_namespaces(root))
    os.mkdir(folder)
    mounts.mount_workdir(folder, megabytes=1, inodes=8)
    mounts.unmount_workdir(folder)
    if os.path.exists("/etc") or os.getpid() != 1:
        raise Failed("It could be entered, but the host's files can still be seen.")


def _own_mounts() -> None:
    """A fork gets its own working directory, at the path and with the content of its original's."""
    root = PrivateRoot(())
    processes = namespaces.enter_namespaces(root)
    places = OwnMounts(root.work, processes, lambda path: mounts.mount_workdir(path, megabytes=1, inodes=8))
    ours, theirs = socket.socketpair()
    if not os.fork():
        _fork_with_mounts(processes, theirs)
    theirs.close()
    place = places.give(_process_named(ours), first=True, keep=False)
    os.mkdir("of the original", dir_fd=place)
    ours.sendall(b" ")
    fork = _process_named(ours)
    place = places.give(fork, first=False, keep=True)
    places.take_aside(fork)
    with contextlib.suppress(FileNotFoundError):
        os.stat("of the original", dir_fd=place)
        raise Failed("They could be made, but a session sees the files of others.")


def _process_named(ours: socket.socket) -> int:
    said = int(ours.recv(16) or -errno.EIO)
    if said < 0:
        raise OSError(-said, "")
    return os.pidfd_open(said)


def _fork_with_mounts(processes: int, theirs: socket.socket) -> NoReturn:
    """Forks as a session does once it has its place."""
    try:
        enter_user_namespace(processes)
        kernel.call("unshare", namespaces.MOUNT)
        capabilities.drop_all_but((capabilities.SYS_ADMIN,))
        theirs.sendall(str(os.getpid()).encode())
        theirs.recv(1)
        fork = Forker(FLAGS_WITH_MOUNTS)()
        if fork:
            theirs.sendall(str(fork).encode())
        signal.pause()
    except OSError as error:
        theirs.sendall(str(-(error.errno or errno.EIO)).encode())
    finally:
        os._exit(0)


def _landlock() -> str:
    capabilities.forbid_new_privileges()
    landlock.restrict((), (), "/dev")
    try:
        os.listdir("/")
    except PermissionError:
        return _extent(landlock.abi())
    raise Failed("It could be enabled, but does not refuse anything.")


def _extent(version: int) -> str:
    lacking = {
        2: "moving files between folders",
        3: "truncation",
        4: "TCP",
        5: "device controls",
        6: "signals and abstract sockets",
    }
    without = [what for since, what in lacking.items() if version < since]
    return f"ABI {version}" + (f"; too old to control {', '.join(without)}" if without else "")


def _landlock_version() -> int:
    try:
        return landlock.abi()
    except OSError:
        return 0


def _filter() -> str:
    capabilities.forbid_new_privileges()
    os.close(seccomp.install_session_filter())
    try:
        socket.socketpair()[0].close()
    except PermissionError as error:
        if error.errno == errno.EPERM:
            here = kernel.architecture()
            return f"{here.name}, tested" if here and here.run else "aarch64: checked against the kernel's headers, not run"
    raise Failed("It could be enabled, but does not refuse anything.")


def _supervision() -> None:
    """A child asks twice for a fork; the first is refused and the second allowed."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        _ask_for_forks(theirs)
    theirs.close()
    _, files, _, _ = socket.recv_fds(ours, 1, 1)
    if not files:
        os.waitpid(child, 0)
        raise OSError(int(ours.recv(16) or errno.EIO), "")
    for allow in (False, True):
        request = None
        while request is None:
            if not select.select(files, [], [], _PATIENCE / 2)[0]:
                raise Failed("A fork was not announced.")
            request = notifications.receive(files[0])
        notifications.answer(files[0], request.id, allow)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise Failed("A fork could not be refused and allowed from outside; it needs Linux 5.5 or newer.")
    os.wait()  # the fork is a child of this process as well


def _ask_for_forks(theirs: socket.socket) -> NoReturn:
    try:
        fork = Forker()
        capabilities.forbid_new_privileges()
        try:
            listener = seccomp.install_session_filter()
        except OSError as error:
            theirs.sendall(b" " + str(error.errno).encode())
            os._exit(1)
        socket.send_fds(theirs, [b" "], [listener])
        refused = False
        try:
            fork()
        except PermissionError:
            refused = True
        fork()
        os._exit(0 if refused else 1)
    finally:
        os._exit(1)


def _no_new_privileges() -> None:
    capabilities.forbid_new_privileges()
    if kernel.prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise Failed("It could be set, but is not.")


def _no_capabilities() -> None:
    capabilities.drop_all_but()
    if any(capabilities.held()):
        raise Failed("Some capabilities could not be given up.")


def _limits() -> None:
    limits.apply(limits.Limits(memory_bytes=1 << 30, cpu_seconds=60, file_bytes=1 << 20, open_files=64))


_TRIALS: tuple[tuple[str, str, Callable[[], str | None]], ...] = (
    (USER_NAMESPACE, "the rights of this user are not those of the session's", _namespace(0)),
    ("mount namespace", "mounts of its own", _namespace(namespaces.MOUNT)),
    ("process namespace", "no process outside can be named; all die with the server", _namespace(namespaces.PROCESS)),
    ("network namespace", "no network, not even loopback", _namespace(namespaces.NETWORK)),
    ("IPC namespace", "no shared memory or queues of the host", _namespace(namespaces.IPC)),
    ("host name namespace", "the host's name is not seen", _namespace(namespaces.HOST_NAME)),
    (CGROUP_NAMESPACE, "the host's control groups are not seen (optional)", _namespace(namespaces.CGROUP)),
    (PRIVATE_ROOT, "files of the host do not exist; working directories have a size limit of their own", _private_root),
    (OWN_MOUNTS, "a working directory has the same path in every clone, and leads nowhere else", _own_mounts),
    (LANDLOCK, "only Python's files and the working directory can be opened", _landlock),
    (FILTER, "only listed system calls can be made: no network, programs, threads or signals", _filter),
    (SUPERVISION, "a session forks only when the host has ordered it", _supervision),
    (NO_NEW_PRIVS, "no program gives a session more rights", _no_new_privileges),
    (CAPABILITIES, "a session has none of root's rights over this machine", _no_capabilities),
    (LIMITS, "memory, processor time, file size and open files are bounded", _limits),
)

_NEEDS = dict.fromkeys((*NAMESPACES[1:], CGROUP_NAMESPACE), USER_NAMESPACE) | {OWN_MOUNTS: PRIVATE_ROOT, SUPERVISION: FILTER}
"""What is only tried if something else, tried before it, works."""
