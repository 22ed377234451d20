"""The supervisor: makes sessions, lets them fork when the host orders it, and cleans up after them.

One thread, one loop, and no model's code. The host is trusted; nothing a session says is.
"""

import contextlib
import os
import resource
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .families import Branch, Family, Process, Window
from .frames import Channel, ChannelError
from .isolation import notifications
from .mappings import as_message
from .open_files import MOST_FILES, RESERVED_FILES
from .places import Places
from .processes import ProcessTable, kill_by
from .separation import Busy, Separation
from .workdirs import Usage

_GENERATIONS = 14
"""How many clones of clones get a branch of their own: the kernel stacks at most 16 layers of Landlock."""
_ENDING = 1.0
"""Seconds within which the last process of a family ends; if its filter is still in use then, there are strays."""


class Supervisor:
    """Serves one host until it is gone.

    Args:
        control: the channel to the host.
        host: a pidfd of the host.
        template: the template's pid, the descriptor for its tokens, and the socket for its orders.
        workdirs: makes working directories.
        table: the kernel's process table.
        separation: inspects new sessions; None if they are not confined.
    """

    def __init__(
        self,
        control: Channel,
        host: int,
        template: tuple[int, int, socket.socket],
        workdirs: Places,
        table: ProcessTable,
        separation: Separation | None,
    ) -> None:
        self.control, self.workdirs, self.table, self._separation = control, workdirs, table, separation
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
                answer = self._answer(self.control.receive())
                top = (answer.get("place") or {}).pop("top", -1)
                self.control.send(answer, [top] if top >= 0 and "failed" not in answer else [])
                if not self.control.buffered:
                    break
        except ChannelError:
            self._stop()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        what = request["op"]
        try:
            if what == "open":
                return self._open(int(request["seed"]), int(request["channel"]))
            if what == "fork":
                return self._allow_fork(int(request["pid"]), str(request["kind"]), int(request["channel"]))
            if what == "register":
                return self._register(int(request["window"]), int(request["pid"]))
            if what == "cancel":
                return self._cancel(int(request["window"]))
            if what == "finish":
                return self._finish(int(request["pid"]))
            if what == "settle":
                return self._settle(int(request["pid"]))
            return self._usage(int(request["pid"]))
        except OSError as error:
            return {"failed": f"{error.strerror or error}"}

    def _open(self, seed: int, number: int) -> dict[str, Any]:
        to_host = self.control.files.pop(0)
        family = Family(self.workdirs.make_family())
        try:
            mine, theirs = socket.socketpair()
            with theirs:
                order = Channel(self._orders)
                order.send({"seed": seed, "family": family.folder}, [to_host, theirs.fileno()])
            os.write(self._tokens, b"1")
        except BaseException:
            self.workdirs.remove_family(family.folder)
            raise
        finally:
            os.close(to_host)
        channel = Channel(mine)
        self._watch(mine.fileno(), lambda events: self._take_listener(channel, family))
        return self._new_window(Window(family, number))

    def _allow_fork(self, pid: int, kind: str, channel: int) -> dict[str, Any]:
        """Opens a window for a copy of a session; see `_place_new` for its kinds."""
        source = self._processes.get(pid)
        if source is None:
            return {"failed": "the interpreter is gone"}
        usage = self._used(source)
        copy = usage is not None and usage.entries > 0
        with contextlib.suppress(ProcessLookupError):  # then it will not fork
            _allow_files(pid, MOST_FILES + RESERVED_FILES)
        reply = self._new_window(Window(source.family, channel, pid, source, kind, copy))
        return reply | {"copy": copy, "bytes": usage.size if usage is not None else 0}

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
            process, said = self._place_new(window, pid, pidfd)
        except OSError:
            os.close(pidfd)
            raise
        self._processes[pid] = process
        window.family.members += 1
        self._close_window(number)
        self._watch(pidfd, lambda events: self._forget(process))
        return said

    def _place_new(self, window: Window, pid: int, pidfd: int) -> tuple[Process, dict[str, Any]]:
        """Gives a new process a working directory, and returns it with what it must be told.

        A "clone" gets a branch of its own; what is "parked" and a "checkpoint" stay in the original's. A checkpoint of a
        session without files gets a working directory only when it takes its original's place.
        """
        original = window.original
        process = Process(pid, pidfd, window.family, Branch(window.family.folder), window.channel, original=original)
        process.copied = window.copy
        if original is not None:
            process.branch, process.inherited = original.branch, original.place or original.inherited
        if window.kind == "checkpoint" and not window.copy:
            return process, {"place": None, "separate": True}  # it will be asked when it takes its original's place
        above = process.branch
        if window.kind == "clone" and above.generation < _GENERATIONS:
            process.branch = Branch(self.workdirs.make_branch(above.folder), above.generation + 1)
        branch = process.branch.folder if process.branch.folder != above.folder else None
        place = self._place(process, copy=window.copy) | {"branch": branch}
        return process, {"place": place} | ({"separate": False} if window.copy else self._separate(process))

    def _place(self, process: Process, *, copy: bool) -> dict[str, Any]:
        inherited = process.inherited
        mappings = self.table.mapped(process.pid, inherited.path) if copy and inherited is not None else []
        place = process.place = self.workdirs.make(process.branch.folder, process.pidfd, inherited, copy=copy)
        told = {"workdir": place.path, "original": place.original, "branch": None, "mappings": as_message(mappings)}
        return told | {"top": place.top}  # which goes to the host alone

    def _finish(self, pid: int) -> dict[str, Any]:
        """Checks whether a new process, which has copied its original's files, if any, has let go of the original."""
        process = self._processes.get(pid)
        if process is None:
            return {"failed": "the new interpreter is gone"}
        if process.place is not None and process.place.original is not None:
            self.workdirs.finish(process.pidfd)
            process.place = replace(process.place, original=None)
        return self._separate(process)

    def _separate(self, process: Process) -> dict[str, Any]:
        """Reports whether a new process cannot reach anything of its original's, and kills it if it can."""
        original = process.original
        if original is not None and self._processes.get(original.pid) is not original:
            original = None
        if self._separation is not None and process.inherited is not None:
            try:
                complaint = self._separation.complaint(process, original, files=self._had_files(process, original))
            except Busy:
                return {"separate": False}
            except OSError as error:
                complaint = f"it cannot be inspected ({error.strerror})"
            if complaint is not None:
                kill_by(process.pidfd)
                return {"failed": f"the copy is not separate: {complaint}"}
        process.original = None
        return {"separate": True}

    def _had_files(self, process: Process, original: Process | None) -> bool:
        """Whether a process could have anything of its original's in memory; if cheap, the original is checked again."""
        if process.copied or original is None or original.place is None:
            return True
        return self.workdirs.bounded and self.workdirs.usage(original.place).entries > 0

    def _close_window(self, number: int) -> None:
        window = self._windows.pop(number)
        self._leave(window.family)
        if window.source is not None:
            with contextlib.suppress(ProcessLookupError):  # then its checkpoint will take its place
                _allow_files(window.source, MOST_FILES)

    def _cancel(self, number: int) -> dict[str, Any]:
        """Gives up a fork: its result, if any, is killed as soon as no other fork could be mistaken for it."""
        window = self._windows.get(number)
        if window is not None:
            self._close_window(number)
            self._must_sweep = True
        return {}

    def _settle(self, pid: int) -> dict[str, Any]:
        """Gives a checkpoint that takes its original's place a working directory, if it has none yet."""
        process = self._processes.get(pid)
        if process is None:
            return {"failed": "the checkpoint is gone"}
        process.original = None  # it is being killed
        if process.place is not None:
            return {"place": None} | self._finish(pid)
        return {"place": self._place(process, copy=False)} | self._separate(process)

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
        """Returns what a process's files take, including those without a name; None if it does not need a folder yet."""
        if process.place is None:
            return None
        usage = self.workdirs.usage(process.place)
        if self.workdirs.bounded:  # its file system counts them
            return usage
        nameless = self.table.nameless(process.pid)
        return Usage(usage.size + sum(nameless.values()), usage.entries + len(nameless))

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
        if not events & select.EPOLLIN:  # no process has this filter any more
            self._unwatch(listener)
            os.close(listener)
            family.listener = None
            return
        try:
            asked = notifications.receive(listener)
        except OSError:
            return  # the process that asked is dead
        if asked is None:
            return
        allow = bool(asked.args[0] == self.workdirs.fork_flags) and self._may_fork(family, asked.pid)
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
        if process.place is not None:
            self.workdirs.remove(process.place)
        self._leave(process.family)

    def _leave(self, family: Family) -> None:
        family.members -= 1
        if family.members == 0:
            self.workdirs.remove_family(family.folder)
            self._ended.append(family)

    def _sweep(self) -> None:
        """Kills processes that belong to nobody: forks that were never registered."""
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
    """Lets a process have this many descriptors from now on; it cannot change that itself."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, MOST_FILES + RESERVED_FILES))
