"""The supervisor: makes sessions, lets them fork when the host orders it, and cleans up after them.

One thread, one loop, and no model's code. The host is trusted; a session is believed nothing.
"""

import contextlib
import os
import resource
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .forking import FLAGS
from .frames import Channel, ChannelError
from .isolation import notifications
from .open_files import MOST_FILES, RESERVED_FILES
from .processes import ProcessTable, kill_by
from .workdirs import Usage, WorkDirs

_GENERATIONS = 14
"""How many clones of clones get a branch of their own: the kernel stacks at most 16 layers of Landlock."""
_ENDING = 1.0
"""Seconds in which the last process of a family ends; if its filter is in use after that, there are strays."""


@dataclass(eq=False)
class Family:
    """Sessions that were cloned from one another; they share a seccomp filter, and so one listener."""

    folder: str
    members: int = 0
    listener: int | None = None


@dataclass(frozen=True)
class Branch:
    """The folder in which a session, its checkpoints and its clones have their working directories.

    Args:
        folder: its path.
        generation: how many branches it lies in.
    """

    folder: str
    generation: int = 0


@dataclass(eq=False)
class Process:
    """A registered session process."""

    pid: int
    pidfd: int
    family: Family
    branch: "Branch"
    workdir: str | None


@dataclass(eq=False)
class Window:
    """A fork that the host ordered and that is not registered yet.

    Args:
        source: who is forked; None when it is the template.
        branch: the new process's.
        workdir: the new process's, if it needs one yet.
        is_used: the source has forked; it may do so once.
    """

    family: Family
    branch: Branch
    source: int | None
    workdir: str | None
    is_used: bool = False


class Supervisor:
    """Serves one host until it is gone.

    Args:
        control: to the host.
        host: a pidfd of the host.
        template: the template's pid, the descriptor for its tokens, and the socket for its orders.
        workdirs: makes working directories.
        table: the kernel's process table.
    """

    def __init__(
        self, control: Channel, host: int, template: tuple[int, int, socket.socket], workdirs: WorkDirs, table: ProcessTable
    ) -> None:
        self.control, self.workdirs, self.table = control, workdirs, table
        self.template, self._tokens, self._orders = template
        self._pid = os.getpid()
        self._processes: dict[int, Process] = {}
        self._windows: dict[int, Window] = {}
        self._last_window = 0
        self._running = True
        self._must_sweep = False
        self._ended: list[Family] = []
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._watch(control.sock.fileno(), lambda events: self._serve())
        self._watch(host, lambda events: self._stop())
        self._template_pidfd = os.pidfd_open(self.template)
        self._watch(self._template_pidfd, lambda events: self._stop())

    def run(self) -> None:
        """Serves until the host or the template ends, then ends every session."""
        while self._running:
            ready = self._epoll.poll(_ENDING if self._ended else None)
            for file, events in ready:
                handler = self._handlers.get(file)
                if handler is not None:
                    handler(events)
            if not ready:
                self._must_sweep = any(family.listener is not None for family in self._ended)
                self._ended = []
            if self._must_sweep and not self._windows:
                self._sweep()
        self._end()

    # --- the host's requests --------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while self._running:
                reply = self._answer(self.control.receive())
                if reply is not None:
                    self.control.send(reply)
                if not self.control.buffered:
                    break
        except ChannelError:
            self._stop()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        what = request["op"]
        try:
            if what == "open":
                return self._open(int(request["seed"]))
            if what == "fork":
                return self._allow_fork(int(request["pid"]), str(request["kind"]))
            if what == "register":
                return self._register(int(request["window"]), int(request["pid"]))
            if what == "cancel":
                return self._cancel(int(request["window"]))
            if what == "settle":
                return self._settle(int(request["pid"]))
            if what == "usage":
                return self._usage(int(request["pid"]))
            self._drop(int(request["pid"]))
        except OSError as error:
            return {"failed": f"{error.strerror or error}"}
        return None

    def _open(self, seed: int) -> dict[str, Any]:
        to_host = self.control.files.pop(0)
        family = Family(self.workdirs.make_family())
        try:
            workdir = self.workdirs.make(family.folder)
            mine, theirs = socket.socketpair()
            with theirs:
                order = Channel(self._orders)
                order.send({"seed": seed, "family": family.folder, "workdir": workdir}, [to_host, theirs.fileno()])
            os.write(self._tokens, b"1")
        except BaseException:
            self.workdirs.remove_family(family.folder)
            raise
        finally:
            os.close(to_host)
        channel = Channel(mine)
        self._watch(mine.fileno(), lambda events: self._take_listener(channel, family))
        return self._new_window(Window(family, Branch(family.folder), None, workdir))

    def _allow_fork(self, pid: int, kind: str) -> dict[str, Any]:
        """Opens a window for a "clone", which gets a branch of its own; "parked" and "checkpoint" stay in the source's."""
        source = self._processes.get(pid)
        if source is None:
            return {"failed": "the interpreter is gone"}
        usage = self._used(source)
        copy = usage is None or usage.entries > 0
        with contextlib.suppress(ProcessLookupError):  # then it will not fork
            _allow_files(pid, MOST_FILES + RESERVED_FILES)
        branch = source.branch
        if kind == "clone" and branch.generation < _GENERATIONS:
            branch = Branch(self.workdirs.make_branch(branch.folder), branch.generation + 1)
        workdir = None if kind == "checkpoint" and not copy else self.workdirs.make(branch.folder)
        reply = self._new_window(Window(source.family, branch, pid, workdir))
        new = {"workdir": workdir, "branch": branch.folder if branch is not source.branch else None, "copy": copy}
        return reply | new | {"bytes": usage.size if usage is not None else 0}

    def _new_window(self, window: Window) -> dict[str, Any]:
        self._last_window += 1
        self._windows[self._last_window] = window
        window.family.members += 1
        return {"window": self._last_window}

    def _register(self, number: int, pid: int) -> dict[str, Any]:
        """Makes a new process a session, if it is one: a child of the template, like all that may be forked."""
        window = self._windows[number]
        if pid in self._processes:
            return {"failed": "the new process is an old one"}
        pidfd = os.pidfd_open(pid)
        if self.table.parent(pid) != self.template:
            os.close(pidfd)
            return {"failed": "the new process is not a session"}
        try:
            _allow_files(pid, MOST_FILES + RESERVED_FILES)
        except OSError:
            os.close(pidfd)
            raise
        process = Process(pid, pidfd, window.family, window.branch, window.workdir)
        self._processes[pid] = process
        window.family.members += 1
        self._close_window(number)
        self._watch(pidfd, lambda events: self._forget(process))
        return {}

    def _close_window(self, number: int) -> None:
        window = self._windows.pop(number)
        self._leave(window.family)
        if window.source is not None:
            with contextlib.suppress(ProcessLookupError):  # then its checkpoint will take its place
                _allow_files(window.source, MOST_FILES)

    def _cancel(self, number: int) -> dict[str, Any]:
        """Gives up a fork: whatever has come of it is killed as soon as no other fork could be mistaken for it."""
        window = self._windows.get(number)
        if window is not None:
            if window.workdir is not None:
                self.workdirs.remove(window.workdir)
            self._close_window(number)
            self._must_sweep = True
        return {}

    def _settle(self, pid: int) -> dict[str, Any]:
        """Gives a checkpoint that takes its original's place a working directory, if it has none yet."""
        process = self._processes.get(pid)
        if process is None:
            return {"failed": "the checkpoint is gone"}
        if process.workdir is not None:
            return {"workdir": None}
        process.workdir = self.workdirs.make(process.branch.folder)
        return {"workdir": process.workdir}

    def _usage(self, pid: int) -> dict[str, Any]:
        process = self._processes.get(pid)
        usage = self._used(process) if process is not None else None
        if process is None or usage is None:
            return {"bytes": 0, "entries": 0}
        unknown = not self.workdirs.bounded and bool(
            self.table.nameless_mapped(pid, self.workdirs.root) - self.table.nameless(pid).keys()
        )
        return {"bytes": usage.size, "entries": self.workdirs.entries + 1 if unknown else usage.entries}

    def _used(self, process: Process) -> Usage | None:
        """Returns what a process's files take, with those that have no name any more; None if it needs no folder yet."""
        if process.workdir is None:
            return None
        usage = self.workdirs.usage(process.workdir)
        if self.workdirs.bounded:  # its file system counts them
            return usage
        nameless = self.table.nameless(process.pid)
        return Usage(usage.size + sum(nameless.values()), usage.entries + len(nameless))

    def _drop(self, pid: int) -> None:
        process = self._processes.get(pid)
        if process is not None:
            kill_by(process.pidfd)

    # --- what the kernel reports ------------------------------------------------------------------------

    def _take_listener(self, channel: Channel, family: Family) -> None:
        """A new session sends the listener of its filter before it says hello; later it could not reach us."""
        self._unwatch(channel.sock.fileno())
        with contextlib.suppress(ChannelError):
            channel.receive()
        if channel.files:
            family.listener = channel.files.pop(0)
            notifications.wake_at_once(family.listener)
            self._watch(family.listener, lambda events: self._judge_fork(family, events))
        channel.close()

    def _judge_fork(self, family: Family, events: int) -> None:
        listener = family.listener
        if listener is None:
            return
        if not events & select.EPOLLIN:  # nobody has this filter any more
            self._unwatch(listener)
            os.close(listener)
            family.listener = None
            return
        try:
            asked = notifications.receive(listener)
        except OSError:
            return  # who asked is dead
        if asked is None:
            return
        allow = bool(asked.args[0] == FLAGS) and self._may_fork(family, asked.pid)
        with contextlib.suppress(OSError):
            notifications.answer(listener, asked.id, allow=allow)

    def _may_fork(self, family: Family, pid: int) -> bool:
        for window in self._windows.values():
            if window.family is family and window.source == pid and not window.is_used:
                window.is_used = True
                return True
        return False

    def _forget(self, process: Process) -> None:
        """A session has ended."""
        self._unwatch(process.pidfd)
        os.close(process.pidfd)
        del self._processes[process.pid]
        if process.workdir is not None:
            self.workdirs.remove(process.workdir)
        self._leave(process.family)

    def _leave(self, family: Family) -> None:
        family.members -= 1
        if family.members == 0:
            self.workdirs.remove_family(family.folder)
            self._ended.append(family)

    def _sweep(self) -> None:
        """Kills processes that are nobody's: forks that were never registered."""
        self._must_sweep = False
        for pid in self.table.children(self.template):
            if pid not in self._processes:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _watch(self, file: int, handler: Callable[[int], None]) -> None:
        self._handlers[file] = handler
        self._epoll.register(file, select.EPOLLIN)

    def _unwatch(self, file: int) -> None:
        self._handlers.pop(file, None)
        with contextlib.suppress(OSError):
            self._epoll.unregister(file)

    def _stop(self) -> None:
        self._running = False

    def _end(self) -> None:
        for process in self._processes.values():
            kill_by(process.pidfd)
        kill_by(self._template_pidfd)
        for _ in range(3):  # the template's children become ours
            for pid in self.table.children(self._pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)


def _allow_files(pid: int, files: int) -> None:
    """Lets a process have so many descriptors from now on; it cannot change that itself."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, MOST_FILES + RESERVED_FILES))
