"""What the tests of disasters strike with, and how they see that nothing is left.

A moment is counted in events (tool calls, requests, prompts), never in seconds, so that what is to happen does happen.
"""

import contextlib
import ctypes
import gc
import os
import random
import select
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, Literal

import pytest
from rollout_toys import CountEnv, CountTool, History

from arpo_envs.tools import ToolResult
from arpo_envs.tools.python import close_idle_server

PATIENCE = 60.0
"""Seconds for what takes one on an idle machine."""
_SUBREAPER = 36
"""The kernel's number of PR_SET_CHILD_SUBREAPER."""


def moment(seed: int, events: int, count: int = 1) -> list[int]:
    """Returns numbers of events drawn by a seed, in the first two thirds, where all who take part are still at work."""
    return sorted(random.Random(seed).sample(range(1, max(2 * events // 3, count + 1)), count))


# --- events, counted over processes -----------------------------------------------------------------------------


def happened(journal: Path, what: bytes = b".") -> int:
    """Adds an event to a journal that several processes write, all of one length; returns its number, from 1."""
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, what)
        return os.lseek(file, 0, os.SEEK_CUR) // len(what)
    finally:
        os.close(file)


def wait_for(what: Callable[[], bool]) -> None:
    """Waits, though not for ever, until something holds that a busy machine may be late with."""
    end = time.monotonic() + PATIENCE
    while not what() and time.monotonic() < end:
        time.sleep(0.01)


def events(journal: Path) -> int:
    return journal.stat().st_size if journal.exists() else 0


@dataclass(frozen=True)
class Struck:
    """Makes environments that count; at a certain call of the tool, something happens to some processes.

    That call waits until each victim has made one, as a busy machine may be late with giving it work; and later calls wait for
    that call: a victim might finish all its work before.

    Args:
        folder: for the journal of calls, a file for each process that has made one, and a file "struck" when it has happened.
        at: number of the call, counted over all processes; 0 for never.
        sent: signal.
        victims: pids, of processes that make calls.
    """

    folder: Path
    at: int = 0
    sent: int = 0
    victims: tuple[int, ...] = ()

    def __call__(self) -> CountEnv:
        return CountEnv(CountTool(hook=self.hook))

    def hook(self, history: History) -> ToolResult | None:
        number = happened(self.folder / "journal")
        (self.folder / str(os.getpid())).touch()
        if number == self.at:
            wait_for(lambda: all((self.folder / str(victim)).exists() for victim in self.victims))
            for victim in {*self.victims} - {os.getpid()}:
                os.kill(victim, self.sent)
            (self.folder / "struck").touch()
            if os.getpid() in self.victims:
                os.kill(os.getpid(), self.sent)
        elif 0 < self.at < number:
            wait_for((self.folder / "struck").exists)
        return None


# --- a partition ------------------------------------------------------------------------------------------------

Line = Literal["open", "silent", "reset"]


@dataclass(eq=False)
class _Way:
    """One way through a proxy: where it listens, the port behind it, and whether anything goes through."""

    listener: socket.socket
    behind: int
    line: Line = "open"


@dataclass(eq=False)
class _End:
    """One end of a connection."""

    sock: socket.socket
    way: _Way
    is_client: bool


class Proxy:
    """Forwards TCP, until it stops: "silent" takes connections and bytes, and passes nothing on; "reset" cuts all connections.

    What it has taken while it was silent it passes on when it is open again, as the kernel does with what was lost.

    Args:
        ports: of the servers behind it, on this machine; each gets an address of its own.
    """

    def __init__(self, *ports: int) -> None:
        self._ways = [_Way(socket.create_server(("127.0.0.1", 0)), port) for port in ports]
        self.urls = [f"http://127.0.0.1:{way.listener.getsockname()[1]}" for way in self._ways]
        self._bell, self._ring = socket.socketpair()
        self._peers: dict[_End, _End] = {}
        self._held: list[tuple[_End, bytes]] = []
        self._over = False
        self.disarm()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._thread.start()

    def disarm(self) -> None:
        """Forwards everything from now on, and counts from 0."""
        self._strike: Callable[[int], Collection[int]] = lambda server: ()
        self._at, self._back, self._late, self.hit = 0, 0, False, frozenset[int]()
        self.requests = self.knocks = 0
        """Requests so far; and connections and requests for the servers that were hit (`hit`), since then."""
        self.cut("open", range(len(self._ways)))

    def arm(
        self, at: int, strike: Callable[[int], Collection[int]], restore: Callable[[], None], *, back: int, late: bool
    ) -> None:
        """Has something happen at a request.

        Args:
            at: number of the request, from 1, counted over all servers.
            strike: is told which server got the request; returns which ones it hit.
            restore: undoes it.
            back: after how many knocks of clients; 0 for never.
            late: the server gets the request first, and the answer is lost.
        """
        self.disarm()
        self._strike, self._restore, self._at, self._back, self._late = strike, restore, at, back, late

    def cut(self, line: Line, servers: Iterable[int]) -> None:
        for server in servers:
            self._ways[server].line = line

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *exception: object) -> None:
        self._over = True
        self._ring.send(b".")
        self._thread.join()
        for one in (*(way.listener for way in self._ways), self._bell, self._ring):
            one.close()

    # --- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        listeners = {way.listener: way for way in self._ways}
        while not self._over:
            self._flush()
            ends = {end.sock: end for end in self._peers}
            for ready in select.select([self._bell, *listeners, *ends], [], [], 0.02)[0]:
                if ready in listeners:
                    self._accept(listeners[ready])
                elif ready in ends and ends[ready] in self._peers:
                    self._pass(ends[ready])
        for end in self._peers:
            end.sock.close()

    def _accept(self, way: _Way) -> None:
        client, _ = way.listener.accept()
        self._knock(way)
        try:
            if way.line == "reset":
                raise OSError
            server = socket.create_connection(("127.0.0.1", way.behind), timeout=5.0)
        except OSError:  # or there is nobody
            _reset(client)
        else:
            server.settimeout(None)
            ends = _End(client, way, True), _End(server, way, False)
            self._peers |= {ends[0]: ends[1], ends[1]: ends[0]}

    def _pass(self, source: _End) -> None:
        try:
            data = source.sock.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            return self._drop(source)
        asked = data.count(b"POST /") if source.is_client else 0
        now = self.requests < self._at <= self.requests + asked
        self.requests += asked
        if asked:
            self._knock(source.way)
        if now and self._late:
            self._peers[source].sock.sendall(data)
        if now:
            self.hit = frozenset(self._strike(self._ways.index(source.way)))
        if not (now and self._late):
            self._held.append((self._peers[source], data))
        return self._flush()

    def _flush(self) -> None:
        for end in [end for end in self._peers if end.is_client and end.way.line == "reset"]:
            self._drop(end)
        held, self._held = self._held, []
        for target, data in held:
            if target.way.line == "silent":
                self._held.append((target, data))
            elif target in self._peers:
                with contextlib.suppress(OSError):
                    target.sock.sendall(data)

    def _drop(self, one: _End) -> None:
        for end in (one, self._peers.pop(one)):
            self._peers.pop(end, None)
            _reset(end.sock)

    def _knock(self, way: _Way) -> None:
        if self._ways.index(way) in self.hit:
            self.knocks += 1
            if self.knocks == self._back:
                self._restore()


def _reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


# --- what is left -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def nothing_left(folder: Path, but: Callable[[], Sequence[int]] = lambda: ()) -> Iterator[None]:
    """Fails if what happens within leaves a process, a thread, a descriptor, a temporary file or shared memory behind.

    Args:
        folder: an empty one, for all temporary files.
        but: returns processes that were there before, with all that they start.
    """
    for process in resource_tracker, forkserver:
        process.ensure_running()  # for the whole life of this one
    with pytest.MonkeyPatch.context() as patched, orphans_here():
        patched.setenv("TMPDIR", str(folder))
        patched.setattr(tempfile, "tempdir", None)
        close_idle_server()
        before = Census.now(but)
        yield
        close_idle_server()
        deadline = time.monotonic() + PATIENCE
        while (left := Census.now(but).beyond(before)) and time.monotonic() < deadline:
            time.sleep(0.05)
        reap_orphans()
        assert not left, left
        temporary = [str(path) for path in folder.rglob("*")]
        assert not temporary, f"temporary files: {temporary}"


@dataclass(frozen=True)
class Census:
    """What there is of this process's: those below it, its threads and open files; and all shared memory without a user."""

    processes: frozenset[int]
    threads: int
    files: int
    shared: frozenset[str]

    @classmethod
    def now(cls, but: Callable[[], Sequence[int]] = lambda: ()) -> "Census":
        gc.collect()
        spared = {below for pid in but() for below in (pid, *descendants(pid))}
        files = len(os.listdir("/proc/self/fd"))
        return cls(frozenset(descendants(os.getpid()) - spared), threading.active_count(), files, frozenset(unused_memory()))

    def beyond(self, before: "Census") -> dict[str, Any]:
        found = {
            "processes": [_command(pid) for pid in self.processes - before.processes],
            "threads": [thread.name for thread in threading.enumerate()] if self.threads > before.threads else [],
            "files": _open_files() if self.files > before.files else [],
            "shared memory": sorted(self.shared - before.shared),
        }
        return {what: left for what, left in found.items() if left}


@contextlib.contextmanager
def orphans_here() -> Iterator[None]:
    """Has the processes below this one become its children when their parents die, or they would be out of sight."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)


def descendants(pid: int) -> set[int]:
    """Returns the processes below a process; those that are dead, and that nobody has asked about, do not count."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = file.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(file.parent.name))
    found, below = set(), [pid]
    while below:
        new = [child for child in children.get(below.pop(), []) if child not in found]
        found |= set(new)
        below += new
    return found


def unused_memory() -> set[str]:
    """Returns the names in /dev/shm that no process has mapped or open: other tests' processes use it, too."""
    names = set(os.listdir("/dev/shm"))
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            maps = (process / "maps").read_text(encoding="utf-8", errors="replace") if names else ""
            names -= {name for name in names if f"/dev/shm/{name}" in maps}
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    names.discard(os.readlink(descriptor).removeprefix("/dev/shm/"))
    return names


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid}: {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()[:200]}"
    return f"{pid}"


def _open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)


def reap_orphans() -> None:
    """Forgets the dead children that this process has inherited; it has asked about its own."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = file.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                os.waitpid(int(file.parent.name), os.WNOHANG)
