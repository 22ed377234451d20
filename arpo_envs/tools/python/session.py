"""`PythonSession`: one interpreter in one episode; cells, copies, and continuing when a cell has killed it."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal

from ...errors import CloneError, ToolFault
from .. import Session, ToolResult
from .budget import anonymous_size
from .checkpoints import Checkpoint
from .client import ForkServer, ServerLost
from .code import strip_fences
from .orders import SessionLost, ask, order
from .process import Process

GRACE = 1.0
"""Seconds after the time limit within which a cell must stop by itself, before its process is killed."""
_BEFORE = "the state is as before this cell"
_GROWING = 8 << 20
"""Bytes by which a session may grow between two cells; our own code needs hardly any."""


class _OverLimit(Exception):
    """A cell took too much; the message says of what."""


class PythonSession:
    """A live interpreter: the `Session` of `PythonTool`.

    A cell needs a checkpoint to go back to. It is taken after the previous cell, while the caller does something else: a
    session that has run a cell holds a second process, its spare, until the room is needed.

    Args:
        server: where it runs.
        process: its process.
        timeout: seconds a cell may take; None leaves it to the call.
    """

    def __init__(self, server: ForkServer, process: Process, timeout: float | None) -> None:
        self._server = server
        self._process: Process | None = process
        self._timeout = timeout
        self._budget = process.budget
        self._busy = threading.Lock()
        self._closed = False
        self._end = ""  # what happened to it
        self._spare = Checkpoint(server, self._budget)  # the next cell's
        self._old = Checkpoint(server, self._budget)  # the last cell's, until there is a spare
        self._shadow: Future[None] | None = None  # the work that makes the spare
        self._must_prepare = False  # a spare: its making was not begun, or it is no longer one
        self._news = ""  # what happened after the last cell

    @property
    def pid(self) -> int | None:
        """The process it runs in, as this process sees it; None if it is lost or closed."""
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
            if self._news:
                return ToolResult(f"the cell was not run: {self._told()}", "died")
            try:
                checkpoint = self._checkpoint(process)
            except CloneError as error:
                if not self._server.usable:
                    return self._lost()
                return ToolResult(f"the cell was not run: {error}", "limit")
            except ToolFault as error:
                self._undo(process, error)
                return ToolResult(f"the cell was not run: {self._told()}", "died") if self._news else self._lost()
            return self._run(process, checkpoint, strip_fences(str(arguments["code"])), seconds)

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns `n` copies of the live interpreter, each a fork of it with a copy of its files."""
        with self._used() as process:
            if process is not None and self._news:
                return [CloneError(f"The interpreter was not cloned: {self._told()}.")] * n
            return [self._copy(process, "clone") for _ in range(n)]

    def park(self) -> Session:
        """Returns a copy that can only be cloned and closed.

        Raises:
            CloneError: it could not be made.
        """
        with self._used() as process:
            if process is not None and self._news:
                raise CloneError(f"The interpreter was not copied: {self._told()}.")
            parked = self._copy(process, "parked")
        if isinstance(parked, CloneError):
            raise parked
        return parked

    def reseed(self, seed: int) -> None:
        """Makes the interpreter's `random` and `numpy.random` a function of `seed`."""
        with self._used() as process:
            if process is None:
                return
            if self._spare.process is not None:
                self._spare.drop()
                self._must_prepare = True
            try:
                order(process, {"op": "seed", "seed": seed})
            except ToolFault as error:
                self._undo(process, error)

    def close(self) -> None:
        """Ends the interpreter, in the middle of a cell if necessary; copies of it live on."""
        self._closed = True
        if not self._server.is_mine:  # locks may be held by threads that do not exist here
            for each in (self._process, self._spare, self._old):
                if each is not None:
                    each.close()
            return
        process = self._process
        if process is not None:
            self._server.end(process)
        shadow = self._shadow
        if shadow is None or shadow.cancel():
            self._tidy_if_idle()
        else:
            shadow.add_done_callback(lambda _: self._tidy_if_idle())

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()

    # --- a cell -----------------------------------------------------------------------------------------

    def _run(self, process: Process, checkpoint: Process, code: str, seconds: float) -> ToolResult:
        """Runs the cell in one of two equal processes, and continues with the other if the first is lost."""
        try:
            result = self._answer(process, checkpoint, code, seconds)
            self._budget.ran(process.pid)
            self._require_within_limits(process, checkpoint)
        except _OverLimit as over:
            return self._go_back(process, checkpoint, ToolResult(f"the cell was undone: {over}; {_BEFORE}", "limit"))
        except SessionLost as lost:
            if lost.overdue:
                what = ToolResult(f"timed out after {seconds:g} s and had to be stopped; {_BEFORE}", "timeout")
            else:
                what = ToolResult(f"the interpreter died in this cell ({lost}); {_BEFORE}", "died")
            return self._go_back(process, checkpoint, what)
        except BaseException:
            self._server.discard(checkpoint)
            raise
        self._prepare(process, checkpoint)
        return result

    def _answer(self, process: Process, checkpoint: Process, code: str, seconds: float) -> ToolResult:
        """Returns what the process says about the cell.

        Raises:
            SessionLost: it is dead, has not answered, or gave an impossible answer.
            _OverLimit: it took too much.
        """
        cell = {"op": "exec", "code": code, "timeout": seconds}
        watch = None if self._server.namespaces else lambda: self._require_within_limits(process, checkpoint)
        reply = ask(process, cell, seconds + GRACE, watch=watch)
        text, error = reply.get("text"), reply.get("error")
        limit = self._server.settings.output_characters
        if not isinstance(text, str) or len(text) > limit or error not in (None, "error", "timeout"):
            raise SessionLost("its answer was forged")
        return ToolResult(text.encode("utf-8", "backslashreplace").decode(), error)

    def _require_within_limits(self, process: Process, checkpoint: Process) -> None:
        """Counts the files of a process, and what all processes take together.

        The files count twice: the next cell needs a checkpoint with the same files, and there must be room for it.

        Raises:
            _OverLimit: it is too much.
        """
        settings = self._server.settings
        with contextlib.suppress(ToolFault, CloneError):  # a lost server is noticed soon enough
            size, entries = self._server.usage(process)
            for each in (process, checkpoint):
                self._budget.grew(each.pid, 0, size)
            if size > settings.disk_mb << 20 or entries > settings.inodes:
                bound = f"the working directory may hold {settings.disk_mb} MB in {settings.inodes} files"
                raise _OverLimit(f"{bound}, deleted ones that are still in use included")
        complaint = self._budget.room()
        if complaint is not None:
            raise _OverLimit(complaint)

    def _go_back(self, process: Process, checkpoint: Process, result: ToolResult) -> ToolResult:
        """Kills the process and lets its checkpoint take its place; returns the result, or that everything is lost."""
        return result if self._replace(process, checkpoint) else self._lost()

    def _replace(self, process: Process, checkpoint: Process) -> bool:
        """Kills the process and lets its checkpoint take its place; returns whether that worked."""
        self._server.discard(process)
        self._process, self._must_prepare = checkpoint, True
        if self._closed:
            return False
        try:
            self._server.settle(checkpoint)
            self._budget.grew(checkpoint.pid, 0, self._server.usage(checkpoint)[0])
        except (ToolFault, CloneError) as error:
            self._give_up(error)
            return False
        return True

    def _lost(self) -> ToolResult:
        """Returns what the model is told when its code has lost the interpreter.

        Raises:
            ToolFault: it was not the code: the session was closed, or the server is gone.
        """
        if self._closed:
            raise ToolFault("The session was closed.")
        if not self._server.usable:
            raise _server_lost()
        return ToolResult(f"the interpreter was lost ({self._end}); nothing of its state is left", "died")

    def _told(self) -> str:
        news, self._news = self._news, ""
        return news

    # --- checkpoints ------------------------------------------------------------------------------------

    def _checkpoint(self, process: Process) -> Process:
        """Returns an equal process to go back to: the spare, or a new one.

        Raises:
            CloneError: there is no room for one.
            SessionLost: the process did not obey.
        """
        spare = self._spare.take()
        complaint = self._budget.room(copying=process.pid if spare is None else None)
        if complaint is not None:
            if spare is not None:
                self._server.discard(spare)
            raise CloneError(complaint)
        if spare is not None:
            return spare
        checkpoint, files = self._server.fork(process, "checkpoint")
        for each in (process, checkpoint):
            self._budget.grew(each.pid, 0, files)
        self._old.drop()
        return checkpoint

    def _prepare(self, process: Process, old: Process | None = None) -> None:
        """Has the next cell's checkpoint made in the background; until then the last cell's is kept, if there is room."""
        self._old.drop()
        self._must_prepare = False
        if old is not None:
            self._old.put(old)
        if not self._budget.keep_place():
            self._old.drop()
            if not self._budget.keep_place():
                return
        self._shadow = self._server.later(partial(self._renew, process))
        if self._shadow is None:
            self._budget.give_place()

    def _renew(self, process: Process) -> None:
        """Makes the spare, and finds out what the process did instead of making one."""
        try:
            before = anonymous_size(process.pid)
            if self._budget.complaint() is not None or not self._server.has_descriptors:
                return
            spare, files = self._server.fork(process, "checkpoint")
            self._spare.put(spare)
            order(process, {"op": "rehearse"})
            for each in (process, spare):
                self._budget.grew(each.pid, 0, files)
                self._budget.ran(each.pid)
            if anonymous_size(process.pid) > before + _GROWING:
                raise SessionLost("it took memory instead of obeying")
            self._old.drop()
        except CloneError:  # there is no room; the next cell will say so, if there still is none
            return
        except ToolFault as error:
            self._spare.drop()
            self._undo(process, error)
        finally:
            self._budget.give_place()

    def _undo(self, process: Process, reason: ToolFault) -> None:
        """Goes back to the newest checkpoint there is: a process that does not obey is useless."""
        self._end = str(reason)
        for back, state in ((self._spare.take(), "as it was"), (self._old.take(), "as before that cell")):
            if back is not None and self._process is process and self._replace(process, back):
                self._news = f"the interpreter did not obey after the last cell ({reason}); the state is {state}"
            elif back is not None:
                self._server.discard(back)
        if not self._news:
            self._give_up(reason)

    def _wait_for_shadow(self) -> None:
        shadow, self._shadow = self._shadow, None
        if shadow is None:
            return
        if shadow.cancel():  # whoever needs the session now should not wait for others
            self._must_prepare = True
            self._budget.give_place()
        else:
            shadow.result()

    # --- copies -----------------------------------------------------------------------------------------

    def _copy(self, process: Process | None, kind: Literal["clone", "parked"]) -> "Session | CloneError":
        if process is None or self._process is not process:
            return self._uncloned(CloneError("The interpreter was lost: it cannot be cloned."))
        complaint = self._budget.room(copying=process.pid)
        if complaint is not None:
            return CloneError(f"The interpreter was not cloned: {complaint}.")
        try:
            twin, files = self._server.fork(process, kind)
        except CloneError as error:
            return self._uncloned(error.with_traceback(None))
        except ToolFault as error:
            self._undo(process, error)
            return self._uncloned(CloneError(f"The interpreter was not cloned: {self._told() or f'it is lost ({error})'}."))
        self._budget.grew(twin.pid, 0, files)
        return type(self)(self._server, twin, self._timeout)

    def _uncloned(self, error: CloneError) -> CloneError:
        """Returns the error, which names the loss of the server as its cause if that is why."""
        if not self._closed and not self._server.usable:
            error.__cause__ = _server_lost()
        return error

    # --- who holds what ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _used(self) -> Iterator[Process | None]:
        """Gives the process to one caller at a time; None if it is lost, closed, or another process's."""
        if not self._server.is_mine:  # a fork of the host: whoever held the lock there will never release it here
            yield None
            return
        with self._busy:
            self._wait_for_shadow()
            usable = not self._closed and self._server.usable
            try:
                yield self._process if usable else None
            finally:
                if self._closed:
                    self._wait_for_shadow()
                    self._tidy()
                elif usable and self._must_prepare and self._process is not None:
                    self._prepare(self._process)

    def _tidy_if_idle(self) -> None:
        if self._busy.acquire(blocking=False):  # else whoever holds it tidies up
            try:
                self._wait_for_shadow()
                self._tidy()
            finally:
                self._busy.release()

    def _give_up(self, reason: Exception) -> None:
        self._end = self._end or str(reason)
        self._tidy()

    def _tidy(self) -> None:
        self._spare.drop()
        self._old.drop()
        if self._process is not None:
            self._server.discard(self._process)
            self._process = None


def _server_lost() -> ServerLost:
    return ServerLost("The interpreter was lost: its server has died, or belongs to another process.")
