"""The host's side of the fork server: starts it, orders sessions and forks, and verifies who is who."""

import contextlib
import os
import resource
import signal
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Literal

from ...errors import CloneError, ConfigError, ToolLost
from .budget import Budget
from .launch import ServerSettings, end, start
from .orders import OBEYING, WATCHING, SessionLost, order
from .process import Process, inner_pid
from .server.frames import Channel, ChannelError
from .server.workdirs import taken

STARTING = 120.0
"""Seconds within which the server must have imported everything."""
ANSWERING = 15.0
"""Seconds within which the server must answer, and a new session must say hello."""
_COPYING = 10 << 20
"""Bytes of files that a copy copies per second, at least."""
_PAUSE = 0.0005
"""Seconds before the server is asked again whether a new process is separate; doubled every time."""
_DYING = 1.0
"""Seconds within which a killed process is dead."""
_HELPERS = 8
"""Threads for background work: one is nearly always enough."""


class SandboxUnavailable(ConfigError):
    """This machine cannot give the isolation that was asked for; the message says what is missing and what to do."""


class ServerLost(ToolLost):
    """The fork server has died, and all its sessions with it."""


class ForkServer:
    """A running fork server; use `fork_server` to share one.

    Args:
        settings: what all its sessions have in common.

    Raises:
        SandboxUnavailable: the machine cannot give what the settings ask for.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.owner = os.getpid()
        self._lock = threading.RLock()  # a collected session may be ended in the middle of a request
        self._processes: dict[int, Process] = {}
        self._helpers = ThreadPoolExecutor(_HELPERS, "arpo-python")
        self._lost = False
        self._end_of_server = ""
        folders: list[str] = []
        self._program, self._control, self._errors = start(self.owner)
        self._finalizer = weakref.finalize(self, end, self.owner, self._program, self._control, self._errors, folders)
        answer = self._introduce()
        folders += [answer["folder"]] if answer["folder"] is not None else []
        self.layers: dict[str, Any] = answer["layers"]
        files_are_kept = self.layers.get("landlock") or self.layers.get("namespaces")
        if not (self.layers.get("seccomp") and self.layers.get("no_new_privs") and files_are_kept):
            warnings.warn("unsafe=True: a model's code runs with the rights of this process.", RuntimeWarning, stacklevel=4)
            return
        for promise in answer["unkept"]:
            warnings.warn(promise, RuntimeWarning, stacklevel=4)

    def _introduce(self) -> dict[str, Any]:
        try:
            deadline = time.monotonic() + STARTING
            self._control.send(asdict(self.settings), deadline=deadline)
            answer = self._control.receive(deadline=deadline)
        except ChannelError as error:
            said = self._last_words()
            self._finalizer()
            raise SandboxUnavailable(f"The Python fork server did not start: {said or error}.") from None
        if "unavailable" in answer:
            self._finalizer()
            why = str(answer["unavailable"]).rstrip(".")
            raise SandboxUnavailable(
                f"The Python sandbox cannot run here: {why}. `arpo doctor` shows what this machine offers; "
                "unsafe=True runs without isolation, which is for code you trust."
            )
        return answer

    def _last_words(self) -> str:
        """Returns the last line the server wrote on its standard error: what it died of."""
        if not self._errors.closed:
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            self._end_of_server = lines[-1][:300] if lines else ""
        return self._end_of_server

    @property
    def is_mine(self) -> bool:
        """Whether it belongs to this process; a fork of its owner has another."""
        return self.owner == os.getpid()

    @property
    def usable(self) -> bool:
        """Whether it is alive and belongs to this process."""
        if self._lost or not self.is_mine:
            return False
        if self._program.poll() is not None:
            self._lose()
        return not self._lost

    @property
    def namespaces(self) -> bool:
        """Whether sessions die with the server, whatever they do, and have bounded working directories."""
        return bool(self.layers.get("namespaces"))

    def close(self) -> None:
        """Ends the server and all its sessions."""
        self._lose()

    # --- sessions ---------------------------------------------------------------------------------------

    def open(self, seed: int, budget: Budget) -> Process:
        """Returns a new session.

        Args:
            seed: the seed of its random generators.
            budget: the budget that it and its clones count towards.

        Raises:
            CloneError: it could not be made.
            ServerLost: the server is gone.
        """
        channel, theirs = _socket_pair(self.settings)
        with _closing_on_error(channel), self._window({"op": "open", "seed": seed}, theirs, theirs) as window:
            theirs.close()
            return self._welcome(channel, window["window"], budget, ANSWERING)

    def fork(self, source: Process, kind: Literal["clone", "parked", "checkpoint"]) -> tuple[Process, int]:
        """Returns a copy of a session that waits for orders, and the bytes in its working directory.

        Args:
            source: the session, which must be idle.
            kind: "parked" for one that is only cloned, and "checkpoint" for one that can only take the original's place:
                each costs less than the one before.

        Raises:
            CloneError: it could not be made, and the original is unharmed.
            SessionLost: the original did not obey; it can no longer be used.
            ServerLost: the server is gone.
        """
        channel, theirs = _socket_pair(self.settings)
        request = {"op": "fork", "pid": source.inner, "kind": kind}
        with _closing_on_error(channel), theirs, self._window(request, theirs) as window:
            reply = order(source, {"op": "fork", "copy": window["copy"]}, [theirs.fileno()])
            theirs.close()
            if "failed" in reply:
                raise CloneError(f"The interpreter could not be cloned: {str(reply['failed'])[:200]}.")
            size = int(window["bytes"])
            process = self._welcome(channel, window["window"], source.budget, OBEYING)
            self._complete(process, size if window["copy"] else None, now=kind != "checkpoint")
            return process, size

    def _complete(self, process: Process, size: int | None, *, now: bool) -> None:
        """Has a new process copy this many bytes of files, if any, and if `now` the server inspect it; the original is idle."""
        try:
            if size is not None:
                reply = order(process, {"op": "settle"}, more=size / _COPYING)
                if "failed" in reply:
                    raise CloneError(f"The new interpreter failed: {str(reply['failed'])[:200]}.")
            if now:
                self._separate(process)
        except BaseException as error:
            self.discard(process)
            if isinstance(error, SessionLost):
                raise CloneError(f"The new interpreter was lost: {error}.") from None
            raise

    def _separate(self, process: Process) -> None:
        """Waits until the server has found that a process cannot reach anything of its original's.

        Raises:
            CloneError: it can, and was killed; or it does not come to rest, so there is no telling.
            ServerLost: the server is gone.
        """
        deadline, pause = time.monotonic() + ANSWERING, _PAUSE
        while not process.separate:
            process.separate = self._request({"op": "finish", "pid": process.inner})["separate"]
            if not process.separate:
                if time.monotonic() > deadline:
                    raise CloneError("The new interpreter or its original did not come to rest.")
                time.sleep(pause)
                pause = min(2 * pause, WATCHING)

    @contextlib.contextmanager
    def _window(
        self, request: dict[str, Any], channel: socket.socket, file: socket.socket | None = None
    ) -> Iterator[dict[str, Any]]:
        """Asks for a fork, and gives it up if it is not registered."""
        request |= {"channel": os.fstat(channel.fileno()).st_ino}
        window = self._request(request, [] if file is None else [file.fileno()])
        try:
            yield window
        except BaseException:
            with contextlib.suppress(ServerLost):
                self._request({"op": "cancel", "window": window["window"]})
            raise

    def _welcome(self, channel: Channel, window: int, budget: Budget, seconds: float) -> Process:
        """Waits for a new process's hello, has the server register it under the pid that the kernel reports, and stops it.

        The server refuses anything but a new child of the template.
        """
        try:
            hello = channel.receive(deadline=time.monotonic() + seconds)
        except ChannelError as error:
            raise CloneError(f"The new interpreter did not say hello: {error}.") from None
        if hello.get("hello") is not True or not channel.sender:
            raise CloneError(f"The new interpreter failed: {str(hello.get('failed', 'no reason given'))[:200]}.")
        pid = channel.sender
        pidfd = None
        try:
            pidfd = os.pidfd_open(pid)
            inner = inner_pid(pidfd) if self.namespaces else pid
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            answer = self._request({"op": "register", "window": window, "pid": inner})
        except (OSError, CloneError, ServerLost) as error:
            if pidfd is not None:
                os.close(pidfd)
            if isinstance(error, ServerLost):
                raise
            raise CloneError(f"The new interpreter could not be registered: {error}.") from None
        process = Process(channel, pid, inner, budget, pidfd, answer["place"], answer["separate"], answer.get("top", -1))
        with self._lock:
            self._processes[pid] = process
        budget.enter(pid)
        return process

    @property
    def has_descriptors(self) -> bool:
        """Whether half of this process's descriptors are left: spare interpreters should not use up the rest."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            lowest = os.dup(self._control.sock.fileno())  # the lowest free one
        except OSError:
            return False
        os.close(lowest)
        return lowest < limit // 2

    def later(self, work: Callable[[], None]) -> "Future[None] | None":
        """Has another thread do something soon; None when this process ends."""
        with contextlib.suppress(RuntimeError):
            return self._helpers.submit(work)
        return None

    def settle(self, process: Process) -> None:
        """Gives a checkpoint that takes its original's place a working directory, if it has none."""
        answer = self._request({"op": "settle", "pid": process.inner})
        process.place, process.separate = answer["place"] or process.place, answer["separate"]
        process.top = answer.get("top", process.top)
        self._separate(process)

    def usage(self, process: Process) -> tuple[int, int]:
        """Returns the bytes and the number of files in a session's working directory."""
        if process.top >= 0:
            found = taken(process.top)
            return found.size, found.entries
        answer = self._request({"op": "usage", "pid": process.inner})
        return int(answer["bytes"]), int(answer["entries"])

    def end(self, process: Process) -> None:
        """Kills a session's process; harmless when it is dead, and does nothing in a fork of this process."""
        if not self.is_mine:  # another thread may have held a lock when this process was forked, and will never release it
            return
        with self._lock:
            if process.ended:
                return
            process.ended = True
            self._processes.pop(process.pid, None)
            process.signal(signal.SIGKILL)
        process.budget.leave(process.pid)

    def discard(self, process: Process) -> None:
        """Ends a session's process for its only user, and frees what this process holds of it."""
        self.end(process)
        process.close()

    def remove(self, process: Process) -> None:
        """Does the same, and waits until its memory is free."""
        self.end(process)
        process.has_ended(_DYING)
        process.close()

    # --- the server itself ------------------------------------------------------------------------------

    def _request(self, message: dict[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        with self._lock:
            if not self.usable:
                raise self._loss()
            try:
                deadline = time.monotonic() + ANSWERING
                self._control.send(message, files, deadline=deadline)
                answer = self._control.receive(deadline=deadline)
                if self._control.files:
                    answer["top"] = self._control.files.pop()
            except ChannelError as error:
                self._lose()
                raise self._loss(str(error)) from None
        if "failed" in answer:
            raise CloneError(f"The Python fork server refused: {answer['failed']}.")
        return answer

    def _loss(self, reason: str = "") -> ServerLost:
        return ServerLost(f"The Python fork server has died. {self._last_words() or reason}".strip())

    def _lose(self) -> None:
        """Ends what is left of the server and its sessions."""
        self._lost = True
        self._last_words()
        if not self.is_mine:
            return
        with self._lock:
            for process in self._processes.values():
                process.signal(signal.SIGKILL)
        self._finalizer()


def _socket_pair(settings: ServerSettings) -> tuple[Channel, socket.socket]:
    try:
        mine, theirs = socket.socketpair()
    except OSError as error:
        advice = "raise the limit, for example with `ulimit -n 8192`"
        raise CloneError(f"No descriptor is left for another interpreter ({error.strerror}): {advice}.") from None
    return Channel(mine, limit=6 * settings.output_characters + 4096, suspicious=True), theirs


@contextlib.contextmanager
def _closing_on_error(channel: Channel) -> Iterator[None]:
    try:
        yield
    except BaseException:
        channel.close()
        raise
