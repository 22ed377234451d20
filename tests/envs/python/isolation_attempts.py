"""What a confined process tries; each function returns plain values that a test compares."""

import contextlib
import ctypes
import errno
import importlib
import mmap
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import threading
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy

_libc = ctypes.CDLL(None, use_errno=True)
DONE = "done"


class Pretended(Exception):
    """A call that was accepted has not been made."""


def _outcome(action: Callable[[], Any]) -> str:
    """Returns "done", or the name of the error."""
    try:
        action()
    except socket.gaierror:
        return "no address"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:  # its name is the outcome
        return type(error).__name__
    return DONE


def _raw(number: int, *arguments: int) -> str:
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    return DONE if result >= 0 else errno.errorcode[ctypes.get_errno()]


def raw_calls(numbers: Mapping[str, int]) -> dict[str, str]:
    """Makes every call with arguments that are all 0."""
    return {name: _raw(number, 0, 0, 0, 0, 0, 0) for name, number in numbers.items()}


def files(outside: str) -> dict[str, str]:
    """Looks at and changes files outside, through all sorts of doors."""

    def write(path: str) -> None:
        with open(path, "w") as file:
            file.write("written by a session")

    def link_and_read() -> None:
        os.symlink("/etc/passwd", "shadow")
        with open("shadow") as file:
            file.read()

    return {
        "stat": _outcome(lambda: os.stat("/etc/passwd")),
        "read": _outcome(lambda: open("/etc/passwd").close()),
        "list": _outcome(lambda: os.listdir("/etc")),
        "list_root": _outcome(lambda: os.listdir("/")),
        "list_work": _outcome(lambda: os.listdir("..")),
        "symlink": _outcome(link_and_read),
        "hard_link": _outcome(lambda: os.link("/etc/passwd", "hard")),
        "environment": _outcome(lambda: open(f"/proc/{os.getppid()}/environ").close()),
        "write": _outcome(lambda: write(f"{outside}/new")),
        "overwrite": _outcome(lambda: write(f"{outside}/file")),
        "truncate": _outcome(lambda: os.truncate(f"{outside}/file", 0)),
        "touch": _outcome(lambda: os.utime(f"{outside}/file", (0, 0))),
        "mode": _outcome(lambda: os.chmod(f"{outside}/file", 0)),
        "unlink": _outcome(lambda: os.unlink(f"{outside}/file")),
        "rename": _outcome(lambda: os.rename(f"{outside}/file", "mine")),
        "mkdir": _outcome(lambda: os.mkdir("../sibling")),
        "library": _outcome(lambda: write(os.path.join(os.path.dirname(os.__file__), "new.py"))),
        "null": _outcome(lambda: write("/dev/null")),
        "inside": _outcome(lambda: write("inside")),
    }


def others(tcp: int, pid: int, name: str) -> dict[str, str]:
    """Reaches for the network, processes and programs."""

    def connect_tcp() -> None:
        with socket.socket() as sock:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", tcp))

    def connect_abstract() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(b"\0" + name.encode())

    return {
        "tcp": _outcome(connect_tcp),
        "abstract": _outcome(connect_abstract),
        "dns": _outcome(lambda: socket.getaddrinfo("localhost.invalid", 80)),
        "signal": _outcome(lambda: os.kill(pid, 0)),
        "signal_parent": _outcome(lambda: os.kill(os.getppid(), 0)),
        "program": _outcome(lambda: os.execv("/bin/true", ["true"])),
        "subprocess": _outcome(lambda: subprocess.run(["/bin/true"], check=True)),
        "thread": _outcome(lambda: threading.Thread(target=int).start()),
        "fork": _outcome(lambda: os.fork() or os._exit(0)),
        "mount": _outcome(lambda: _raise(_libc.mount(b"tmpfs", b".", b"tmpfs", 0, None))),
        "user_namespace": _outcome(lambda: _raise(_libc.unshare(0x10000000))),
    }


def _raise(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def work() -> dict[str, Any]:
    """Does what honest code does; nobody has imported `colorsys` before."""
    x = sympy.Symbol("x")
    with sqlite3.connect("data.db") as base:
        base.execute("create table t (a)")
        base.execute("insert into t values (1)")
    base.close()
    os.makedirs("a/b")
    shutil.copyfile("data.db", "a/b/copy.db")
    shutil.copytree("a", "c")
    os.chmod("c", 0o777)
    np.save("array.npy", np.arange(1000.0))
    with open("array.npy", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        magic = bytes(mapped[1:6])
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda a, b: 0)
    numbers = (ctypes.c_int * 2)(2, 1)
    _libc.qsort(numbers, 2, 4, compare)
    return {
        "solutions": [str(solution) for solution in sympy.solve(x**2 - 5 * x + 6, x)],
        "integral": str(sympy.integrate(sympy.sin(x) * sympy.exp(x), x)),
        "linear": [
            round(value, 6) for value in np.linalg.solve(np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([9.0, 8.0])).tolist()
        ],
        "product": float((np.ones((300, 300)) @ np.ones((300, 300))).sum()),
        "sorted": statistics.median([3, 1, 2]),
        "files": sorted(os.listdir(".")),
        "mode": oct(os.stat("c").st_mode & 0o777),
        "magic": magic.decode(),
        "read_back": float(np.load("array.npy", mmap_mode="r")[7]),
        "zone": str(zoneinfo.ZoneInfo("Europe/Paris")),
        "shared": _outcome(lambda: mmap.mmap(-1, 4096)),
        "import": _outcome(lambda: importlib.import_module("colorsys")) if os.access(os.__file__, os.R_OK) else "hidden",
    }


def exhaust() -> dict[str, str]:
    """Uses more than its share."""

    def fill() -> None:
        with open("big", "wb") as file:
            for _ in range(40):
                file.write(bytes(1 << 16))
                file.flush()

    def fill_folder() -> None:
        for number in range(8):
            with open(f"part{number}", "wb") as file:
                file.write(bytes((1 << 20) - 1))

    def many_files() -> None:
        for number in range(100):
            open(f"f{number}", "w").close()

    def many_open() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.callback(os.close, os.open("/dev/null", os.O_RDONLY))

    return {
        "memory": _outcome(lambda: np.ones(10**9)),
        "string": _outcome(lambda: "x" * (1 << 32)),
        "file": _outcome(fill),
        "many_open": _outcome(many_open),
        "folder": _outcome(fill_folder),
        "many_files": _outcome(many_files),
    }


def ways_round(outside: str) -> dict[str, str]:
    """Goes round the layers by arguments of allowed calls."""

    def set_times() -> None:
        library = os.open(os.__file__, os.O_RDONLY)
        before = os.fstat(library).st_mtime_ns
        os.utime(library, ns=(before, before + 1))
        if os.fstat(library).st_mtime_ns == before:
            raise Pretended

    def share() -> None:
        with open("shared", "w+b") as file:
            file.write(bytes(4096))
            file.flush()
            place = _libc.mmap(None, 4096, 1, 1, file.fileno(), 0)
            _raise(_libc.mprotect(ctypes.c_void_p(place), 4096, 3))

    def reserve() -> None:
        with open("reserved", "wb") as file:
            _raise(_libc.fallocate(file.fileno(), keep_size, ctypes.c_long(0), ctypes.c_long(2 << 20)))

    def grow_stack() -> None:
        top = ctypes.c_void_p.in_dll(_libc, "__libc_stack_end").value or 0
        page = (top & -4096) - (4 << 20)  # below what is in use
        ctypes.memset(page, 0, 1)
        if _libc.mremap(page, 4096, 1 << 31, may_move) == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "")

    _libc.mmap.restype, _libc.mremap.restype = ctypes.c_void_p, ctypes.c_void_p
    _libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    _libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    keep_size, may_move, out_of_band, peer = 1, 1, 1, 17
    return {
        "times": _outcome(set_times),
        "share": _outcome(share),
        "grow_stack": _outcome(grow_stack),
        "attribute": _outcome(lambda: os.getxattr(f"{outside}/file", "user.secret")),
        "set_id": _outcome(lambda: os.close(os.open("program", os.O_CREAT | os.O_WRONLY, 0o4755))),
        "reserve": _outcome(reserve),
        "out_of_band": _outcome(lambda: _raise(_libc.send(-1, b"a", ctypes.c_size_t(1), out_of_band))),
        "peer": _outcome(lambda: _raise(_libc.getsockopt(-1, 1, peer, None, None))),
        "fork": _outcome(lambda: os.fork() or os._exit(0)),
    }


def identity() -> dict[str, Any]:
    """Says what it is to the kernel."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "user": os.getuid(),
        "group": os.getgid(),
        "groups": os.getgroups(),
        "host_name": socket.gethostname(),
        "interfaces": _interfaces(),
        "root": sorted(os.listdir("/")),
        "devices": sorted(os.listdir("/dev")),
        "bounding": [_libc.prctl(23, capability, 0, 0, 0) for capability in range(38)],
        "ambient": [_libc.prctl(47, 1, capability, 0, 0) for capability in range(38)],
    }


def _interfaces() -> list[str] | str:
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def seccomp_mode() -> int:
    """Returns 2 under a filter."""
    return int(_libc.prctl(21, 0, 0, 0, 0))


def die(signal: int) -> None:
    """Dies by a signal, if it can."""
    if signal == 31:
        _libc.syscall(ctypes.c_long(0x40000000))  # x32
    ctypes.string_at(0)


def no_new_privs() -> int:
    """Returns 1 if programs give no rights."""
    return int(_libc.prctl(39, 0, 0, 0, 0))


SCENARIOS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (raw_calls, files, others, work, exhaust, ways_round, identity, seccomp_mode, no_new_privs, die)
}
