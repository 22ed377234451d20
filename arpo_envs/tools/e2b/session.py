"""One E2B sandbox as a session: cells, native forks, snapshots, and replay if the server cannot fork."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import CloneError, ToolFault, ToolLost
from .. import Session, ToolResult
from ..python import strip_fences
from .calls import (
    Deadline,
    is_not_offered,
    load_sdk,
    may_be_unknown,
    patiently,
    seconds_for,
    status_of,
    wait_before,
    was_refused,
)
from .opener import Opener
from .text import FLOOD, Flooded, Transcript

log = logging.getLogger(__name__)

BATCH = 20
"""Copies that one request may ask for."""
CLOSING = 5.0
"""Seconds that closing may take; what it cannot kill in time ends with its lifetime."""

_SEEDING = """\
import random as _random
_random.seed({seed})
try:
    import numpy.random as _random
    _random.seed({seed})
except ImportError:
    pass
del _random
"""


@dataclass(frozen=True)
class Cell:
    """What was run, so that it can be run again.

    Args:
        code: the cell's code.
        seed: what the sandbox's generators were seeded with before it; None if they continued.
    """

    code: str
    seed: int | None


@dataclass(frozen=True)
class State:
    """What a session and its clones have in common at the moment of cloning.

    Args:
        seed: the last seed the session was given.
        unsown: whether the sandbox does not have that seed yet.
        cells: what has been run so far.
        torn: why running the cells again would not lead here; "" if it would.
        forks: whether the server is believed to fork.
    """

    seed: int
    unsown: bool = True
    cells: tuple[Cell, ...] = ()
    torn: str = ""
    forks: bool = True


class E2BSession:
    """One sandbox, from its start or cloning to `close`.

    Args:
        tool: what opened it.
        sandbox: the SDK's sandbox.
        state: what it starts from.
        replayed_calls: cells that were run again to make it.
    """

    def __init__(self, tool: Opener, sandbox: Any, state: State, replayed_calls: int = 0) -> None:
        self.replayed_calls = replayed_calls
        self._tool, self._sandbox, self._state = tool, sandbox, state
        self._lost = ""
        self._heard = time.monotonic()

    def __repr__(self) -> str:
        return f"E2BSession({'closed' if self._sandbox is None else self._sandbox.sandbox_id})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A session lives in a sandbox, and does not pickle.")

    # --- calls ---------------------------------------------------------------------------------------------

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Runs a cell.

        Raises:
            ToolFault: the sandbox is lost, or it is unknown what the cell did.
        """
        code = strip_fences(str(arguments["code"])).encode("utf-8", "replace").decode()
        return self.run(code, Deadline.within(timeout))

    def run(self, code: str, deadline: Deadline) -> ToolResult:
        """Runs a cell, and before it what the sandbox does not have yet: more lifetime, a new seed."""
        allowed = deadline.left()
        self._prolong(deadline)
        seed = self._state.seed if self._state.unsown else None
        output, end = self._sow(deadline)
        if end is None:
            output, end = self._execute(code, deadline)
        if end is None:
            self._note(Cell(code, seed))
            error = "error" if output.error is not None else None
            return ToolResult(output.text(), error)
        if end == "timeout":
            told, torn = f"timed out after {allowed:.3g} s; the state up to there is kept", "a cell timed out"
        elif end == "limit":
            told, torn = f"stopped: a cell may write {FLOOD:,} characters", "a cell was stopped while it wrote"
        else:
            told, torn = "the interpreter died in this cell; nothing of its state is left", "the interpreter died"
            self.reseed(self._state.seed)
        self._note(Cell(code, seed), torn)
        output.line(told)
        return ToolResult(output.text(), end)

    def _sow(self, deadline: Deadline) -> tuple[Transcript, str | None]:
        """Seeds the sandbox's generators if a seed is waiting; returns what `_execute` does."""
        if not self._state.unsown:
            return Transcript(), None
        output, end = self._execute(_SEEDING.format(seed=self._state.seed), deadline)
        self._state = replace(self._state, unsown=end is not None)
        return output, end

    def _note(self, cell: Cell, torn: str = "") -> None:
        self._state = replace(self._state, cells=(*self._state.cells, cell), torn=self._state.torn or torn)

    def _execute(self, code: str, deadline: Deadline) -> tuple[Transcript, str | None]:
        """Returns what a cell sent, and how it was cut short: "timeout", "limit", "died" or None."""
        sandbox, output = self._usable(), Transcript()
        reserve = min(1.0, 0.1 * deadline.left())  # to see, when time is up, whether the sandbox is still there
        limit = Deadline(deadline.end - reserve)
        # when a connection breaks, the SDK itself checks whether the sandbox is there, without a time limit to set
        sandbox.connection_config.request_timeout = seconds_for(Deadline.within(reserve))
        handlers = {
            "on_stdout": output.written,
            "on_stderr": output.written,
            "on_result": output.shown,
            "on_error": output.failed,
        }

        def execute() -> None:
            sandbox.run_code(code, timeout=seconds_for(limit), request_timeout=seconds_for(limit), **handlers)

        try:
            patiently(execute, was_refused, deadline=limit, retries=self._tool.retries, seed=self._state.seed)
        except Flooded:
            return output, "limit"
        except Exception as error:  # noqa: BLE001  # the SDK's errors have no common base
            if was_refused(error):
                raise ToolFault(f"E2B refused to run a cell: {self._tool.told(error)}") from None
            if time.monotonic() >= limit.end - 0.05 and self._is_running(deadline) is not False:
                return output, "timeout"
            raise self._lose(self._tool.told(error)) from None
        self._heard = time.monotonic()
        died = output.error is not None and not output.error.traceback
        if died and output.error.name == "UnexpectedEndOfExecution":
            raise self._lose("its kernel could no longer be reached")
        if died and output.error.name == "ContextRestarting":
            output.error = None
            return output, "died"
        return output, None

    def _usable(self) -> Any:
        if self._lost:
            raise ToolLost(self._lost)
        if self._sandbox is None:
            raise ToolFault("The session was closed.")
        return self._sandbox

    def _lose(self, reason: str) -> ToolFault:
        """Gives the sandbox up: it is gone, or a cell may have run and its effect is unknown."""
        self._lost = f"The E2B sandbox was lost: {reason}"
        return ToolLost(self._lost)

    def _is_running(self, deadline: Deadline) -> bool | None:
        """Returns whether the sandbox runs, or None if unknown."""
        try:
            return bool(self._usable().is_running(request_timeout=seconds_for(deadline)))
        except Exception:  # noqa: BLE001  # as above; no answer is an answer
            return None

    def _prolong(self, deadline: Deadline) -> None:
        """Asks for another lifetime when half of the current one may have passed."""
        sandbox = self._usable()
        if time.monotonic() - self._heard < self._tool.lifetime / 2:
            return
        try:
            sandbox.set_timeout(self._tool.lifetime, request_timeout=seconds_for(deadline), retries=self._tool.retries)
            self._heard = time.monotonic()
        except Exception as error:  # noqa: BLE001  # as above
            if status_of(error) == 404:
                raise self._lose("it reached the end of its lifetime") from None
            log.warning("The lifetime of a sandbox could not be prolonged: %s", self._tool.told(error))

    # --- the rest of a session ------------------------------------------------------------------------------

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns `n` copies of the sandbox as it is now; those that could not be made are errors."""
        deadline = Deadline.within(self._tool.timeout)
        if self._lost or self._sandbox is None:
            return [CloneError(self._lost or "The session was closed.") for _ in range(n)]
        if self._state.forks:
            children = self._forked(n, deadline)
            if self._state.forks or self._tool.fork == "native":
                return children
        return [replayed(self._tool, self._state, deadline) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        """Records a seed for the sandbox's generators; it is set with the next call."""
        self._state = replace(self._state, seed=seed, unsown=True)

    def close(self) -> None:
        """Kills the sandbox; if E2B does not answer in time, the sandbox ends with its lifetime."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is None:
            return
        try:
            sandbox.kill(request_timeout=seconds_for(Deadline.within(CLOSING)), retries=0)
        except Exception as error:  # noqa: BLE001  # as above; the episode is over either way
            log.warning("A sandbox could not be killed: %s", self._tool.told(error))

    def park(self) -> Session:
        """Returns a frozen copy that can only be cloned and closed: a snapshot without a running machine.

        Raises:
            CloneError: it could not be made.
        """
        state = self._state
        if not state.forks:
            if state.torn:
                raise CloneError(_unrepeatable(state))
            return E2BParked(self._tool, None, state)
        deadline = Deadline.within(self._tool.timeout)

        def freeze() -> Any:
            return self._usable().create_snapshot(request_timeout=seconds_for(deadline), retries=0)

        try:
            snapshot = patiently(freeze, was_refused, deadline=deadline, retries=self._tool.retries, seed=state.seed)
        except Exception as error:  # noqa: BLE001  # as above
            if self._cannot(error, deadline):
                (child,) = self.clone(1)
                if not isinstance(child, CloneError):
                    return child
            raise CloneError(f"E2B took no snapshot: {self._tool.told(error)}") from None
        return E2BParked(self._tool, str(snapshot.snapshot_id), state)

    # --- forking ---------------------------------------------------------------------------------------------

    def _forked(self, n: int, deadline: Deadline) -> "list[Session | CloneError]":
        """Returns `n` native copies; copies that were refused are asked for again."""
        outcomes: list[Any] = [CloneError("There was no time to ask for this copy.")] * n
        missing = list(range(n))
        for attempt in range(self._tool.retries + 1):
            for start in range(0, len(missing), BATCH):
                places = missing[start : start + BATCH]
                for place, outcome in zip(places, self._asked(len(places), deadline), strict=True):
                    outcomes[place] = outcome
            missing = [place for place in missing if isinstance(outcomes[place], Exception) and was_refused(outcomes[place])]
            wait = wait_before(attempt, self._state.seed)
            if not missing or attempt == self._tool.retries or wait >= deadline.left():
                break
            time.sleep(wait)
        if n and all(isinstance(outcome, Exception) for outcome in outcomes) and self._cannot(outcomes[0], deadline):
            self._state = replace(self._state, forks=self._tool.fork == "native")
            advice = "This E2B server does not fork: use fork='replay', or fork='auto'"
            return [CloneError(f"{advice} ({self._tool.told(outcomes[0])}).") for _ in range(n)]
        return [self._child(outcome) for outcome in outcomes]

    def _asked(self, count: int, deadline: Deadline) -> list[Any]:
        """Returns the results of one request for `count` copies: sandboxes and errors."""
        try:
            # no retry by the SDK, which also repeats what may have been done
            request = {"request_timeout": seconds_for(deadline), "retries": 0}
            given = list(self._usable().fork(timeout=self._tool.lifetime, count=count, **request))
        except Exception as error:  # noqa: BLE001  # as above
            return [error] * count
        absent = [CloneError(f"E2B made {len(given)} of {count} copies.")] * (count - len(given))
        return [*given, *absent][:count]

    def _child(self, outcome: Any) -> "Session | CloneError":
        if isinstance(outcome, Exception):
            return CloneError(f"E2B made no copy of the sandbox: {self._tool.told(outcome)}")
        return E2BSession(self._tool, outcome, self._state)

    def _cannot(self, error: Exception, deadline: Deadline) -> bool:
        """Says whether the server does not offer what it was asked for, rather than having lost the sandbox."""
        return is_not_offered(error) or (may_be_unknown(error) and self._is_running(deadline) is True)


class E2BParked:
    """A frozen session: a snapshot in the cloud, or only the list of its cells.

    Args:
        tool: what opened the session.
        snapshot: its id; None if clones run the cells again.
        state: what clones start from.
    """

    replayed_calls = 0

    def __init__(self, tool: Opener, snapshot: str | None, state: State) -> None:
        self._tool, self._snapshot, self._state = tool, snapshot, state
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A parked session belongs to the process that parked it, and does not pickle.")

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Runs nothing.

        Raises:
            ToolFault: always.
        """
        raise ToolFault("This session is parked: clone it, and call the clone.")

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns `n` live sessions in the frozen state; those that could not be made are errors."""
        deadline = Deadline.within(self._tool.timeout)
        return [self._thawed(deadline) for _ in range(n)]

    def _thawed(self, deadline: Deadline) -> "Session | CloneError":
        if self._closed:
            return CloneError("The snapshot was closed.")
        if self._snapshot is None:
            return replayed(self._tool, self._state, deadline)
        try:
            return E2BSession(self._tool, self._tool.start(self._snapshot, self._state.seed, deadline), self._state)
        except Exception as error:  # noqa: BLE001  # the SDK's errors have no common base
            return CloneError(f"E2B started no sandbox from the snapshot: {self._tool.told(error)}")

    def reseed(self, seed: int) -> None:
        """Records a seed for the clones."""
        self._state = replace(self._state, seed=seed, unsown=True)

    def close(self) -> None:
        """Deletes the snapshot; what was started from it lives on."""
        snapshot, self._snapshot, self._closed = self._snapshot, None, True
        if snapshot is None:
            return
        try:
            request = {"request_timeout": seconds_for(Deadline.within(CLOSING)), "retries": 0}
            load_sdk().delete_snapshot(snapshot, api_key=self._tool.key(), **request)
        except Exception as error:  # noqa: BLE001  # as above; nobody will use it
            log.warning("A snapshot could not be deleted: %s", self._tool.told(error))


def replayed(tool: Opener, state: State, deadline: Deadline) -> "Session | CloneError":
    """Returns a session in a new sandbox in which the cells were run again, in order."""
    if state.torn:
        return CloneError(_unrepeatable(state))
    try:
        sandbox = tool.start(tool.template, state.seed, deadline)
    except Exception as error:  # noqa: BLE001  # as above
        return CloneError(f"E2B started no sandbox to run the cells again in: {tool.told(error)}")
    child = E2BSession(tool, sandbox, replace(state, cells=(), unsown=False), len(state.cells))
    try:
        for number, cell in enumerate(state.cells, start=1):
            if cell.seed is not None:
                child.reseed(cell.seed)
            if child.run(cell.code, deadline).error in ("timeout", "limit", "died"):
                raise ToolFault(f"cell {number} did not end as before")
        child._state = replace(child._state, seed=state.seed, unsown=state.unsown)
    except Exception as error:  # noqa: BLE001  # as above
        child.close()
        return CloneError(f"The cells could not be run again: {tool.told(error)}")
    return child


def _unrepeatable(state: State) -> str:
    return f"The cells cannot be run again to the same effect: {state.torn}. With fork='native' a sandbox is copied as it is."
