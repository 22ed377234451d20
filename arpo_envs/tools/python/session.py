"""`PythonSession`: one interpreter in one episode; cells, copies, and going on when a cell has killed it."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ...errors import CloneError, ToolFault
from .. import Session, ToolResult
from .client import ANSWERING, ForkServer, SessionLost
from .code import strip_fences
from .process import Process

GRACE = 1.0
"""Seconds after the time limit in which a cell must have stopped by itself, before its process is killed."""
_BEFORE = "the state is as before this cell"


class _OverLimit(Exception):
    """A cell took too much; the text says of what."""


class PythonSession:
    """A live interpreter: the `Session` of `PythonTool`.

    Args:
        server: where it runs.
        process: its process.
        timeout: seconds a cell may take; None leaves it to the call.
    """

    def __init__(self, server: ForkServer, process: Process, timeout: float | None) -> None:
        self._server = server
        self._process: Process | None = process
        self._timeout = timeout
        self._busy = threading.Lock()
        self._closed = False
        self._end = ""  # what happened to it

    @property
    def pid(self) -> int | None:
        """The process it runs in, as this process sees it; None when it is lost or closed."""
        process = self._process
        return None if process is None else process.pid

    @property
    def layers(self) -> Mapping[str, Any]:
        """The layers of isolation around it."""
        return dict(self._server.layers)

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Runs a cell; whatever it does is a result.

        Args:
            name: the tool's name.
            arguments: the cell, as "code".
            timeout: seconds until it is stopped; it then has `GRACE` seconds before its process is killed.

        Raises:
            ToolFault: the session was closed, or its server is gone.
        """
        seconds = timeout if self._timeout is None else min(timeout, self._timeout)
        with self._used() as process:
            if process is None:
                return self._lost()
            complaint = process.budget.complaint(copying=process.pid)
            if complaint is not None:
                return ToolResult(f"the cell was not run: {complaint}", "limit")
            try:
                checkpoint, files = self._server.fork(process, "checkpoint")
            except CloneError as error:
                if not self._server.usable:
                    return self._lost()
                return ToolResult(f"the cell was not run: {error}", "limit")
            except ToolFault as error:
                self._give_up(error)
                return self._lost()
            for each in (process, checkpoint):
                each.budget.grew(each.pid, 0, files)
            return self._run(process, checkpoint, strip_fences(str(arguments["code"])), seconds)

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns `n` copies of the live interpreter, each a fork of it with a copy of its files."""
        with self._used() as process:
            return [self._copy(process, "clone") for _ in range(n)]

    def park(self) -> Session:
        """Returns a copy that is only to be cloned and closed.

        Raises:
            CloneError: it could not be made.
        """
        with self._used() as process:
            parked = self._copy(process, "parked")
        if isinstance(parked, CloneError):
            raise parked
        return parked

    def reseed(self, seed: int) -> None:
        """Makes the interpreter's `random` and `numpy.random` a function of `seed`."""
        with self._used() as process:
            if process is None:
                return
            try:
                self._server.ask(process, {"op": "seed", "seed": seed}, ANSWERING)
            except ToolFault as error:
                self._give_up(error)

    def close(self) -> None:
        """Ends the interpreter, in the middle of a cell if need be; copies of it live on."""
        self._closed = True
        process = self._process
        if process is not None:
            self._server.end(process)
        if self._busy.acquire(blocking=False):  # else who holds it tidies up
            try:
                self._tidy()
            finally:
                self._busy.release()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()

    # --- a cell -----------------------------------------------------------------------------------------

    def _run(self, process: Process, checkpoint: Process, code: str, seconds: float) -> ToolResult:
        """Runs the cell in one of two equal processes, and goes on with the other if the first is lost."""
        try:
            result = self._answer(process, checkpoint, code, seconds)
            process.budget.ran(process.pid)
            self._check(process, checkpoint)
        except _OverLimit as over:
            return self._go_back(process, checkpoint, ToolResult(f"the cell was undone: {over}; {_BEFORE}", "limit"))
        except SessionLost as lost:
            if lost.overdue:
                what = ToolResult(f"timed out after {seconds:g} s and had to be stopped; {_BEFORE}", "timeout")
            else:
                what = ToolResult(f"the interpreter died in this cell ({lost}); {_BEFORE}", "died")
            return self._go_back(process, checkpoint, what)
        except BaseException:
            self._discard(checkpoint)
            raise
        self._discard(checkpoint)
        return result

    def _answer(self, process: Process, checkpoint: Process, code: str, seconds: float) -> ToolResult:
        """Returns what the process says about the cell.

        Raises:
            SessionLost: it is dead, has not answered, or what it said cannot be an answer.
            _OverLimit: it took too much.
        """
        order = {"op": "exec", "code": code, "timeout": seconds}
        watch = None if self._server.namespaces else lambda: self._check(process, checkpoint)
        reply = self._server.ask(process, order, seconds + GRACE, watch=watch)
        text, error = reply.get("text"), reply.get("error")
        limit = self._server.settings.output_characters
        if not isinstance(text, str) or len(text) > limit or error not in (None, "error", "timeout"):
            raise SessionLost("its answer was forged")
        return ToolResult(text.encode("utf-8", "backslashreplace").decode(), error)

    def _check(self, process: Process, checkpoint: Process) -> None:
        """Counts the files of a process, and what all take together.

        The files count twice: the next cell needs a checkpoint with as many, and there must be room for it.

        Raises:
            _OverLimit: it is too much.
        """
        settings = self._server.settings
        with contextlib.suppress(ToolFault, CloneError):  # a lost server is noticed soon enough
            size, entries = self._server.usage(process)
            for each in (process, checkpoint):
                each.budget.grew(each.pid, 0, size)
            if size > settings.disk_mb << 20 or entries > settings.inodes:
                bound = f"the working directory may hold {settings.disk_mb} MB in {settings.inodes} files"
                raise _OverLimit(f"{bound}, deleted ones that are still in use included")
        complaint = process.budget.complaint()
        if complaint is not None:
            raise _OverLimit(complaint)

    def _go_back(self, process: Process, checkpoint: Process, result: ToolResult) -> ToolResult:
        """Kills the process and lets its checkpoint take its place; returns the result, or that all is lost."""
        self._discard(process)
        self._process = checkpoint
        if self._closed:
            return self._lost()
        try:
            self._server.settle(checkpoint)
            checkpoint.budget.grew(checkpoint.pid, 0, self._server.usage(checkpoint)[0])
        except (ToolFault, CloneError) as error:
            self._give_up(error)
            return self._lost()
        return result

    def _lost(self) -> ToolResult:
        """Returns what the model is told when its code has cost it the interpreter.

        Raises:
            ToolFault: it was not the code: the session was closed, or the server is gone.
        """
        if self._closed:
            raise ToolFault("The session was closed.")
        if not self._server.usable:
            raise ToolFault("The interpreter was lost: its server has died, or belongs to another process.")
        return ToolResult(f"the interpreter was lost ({self._end}); nothing of its state is left", "died")

    # --- copies -----------------------------------------------------------------------------------------

    def _copy(self, process: Process | None, kind: Literal["clone", "parked"]) -> "Session | CloneError":
        if process is None or self._process is not process:
            return CloneError("The interpreter was lost: it cannot be cloned.")
        complaint = process.budget.complaint(copying=process.pid)
        if complaint is not None:
            return CloneError(f"The interpreter was not cloned: {complaint}.")
        try:
            twin, files = self._server.fork(process, kind)
        except CloneError as error:
            return error.with_traceback(None)
        except ToolFault as error:
            self._give_up(error)
            return CloneError(f"The interpreter could not be cloned, and is lost: {error}.")
        process.budget.grew(twin.pid, 0, files)
        return type(self)(self._server, twin, self._timeout)

    # --- who holds what ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _used(self) -> Iterator[Process | None]:
        """Gives the process to one caller at a time; None when it is lost, closed, or another process's."""
        if not self._server.is_mine:  # a fork of the host: whoever held the lock there will never release it here
            yield None
            return
        with self._busy:
            usable = not self._closed and self._server.usable
            try:
                yield self._process if usable else None
            finally:
                if self._closed:
                    self._tidy()

    def _discard(self, process: Process) -> None:
        self._server.end(process)
        process.channel.close()

    def _give_up(self, reason: Exception) -> None:
        self._end = self._end or str(reason)
        self._tidy()

    def _tidy(self) -> None:
        if self._process is not None:
            self._discard(self._process)
            self._process = None
