"""Runs one cell after another in one namespace, the way a notebook does."""

import __future__

import ast
import builtins
import contextlib
import importlib
import inspect
import linecache
import mmap
import signal
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from . import errors, loops
from .output import NoInput, Output, Stream

AGAIN = 0.1
"""Seconds after which a cell that continues after its time limit is interrupted again."""
_REHEARSING = 1.0
"""Seconds that a cell that does nothing may take."""

_FEATURES = {name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names}
_RECURSION = 1000
_DIGITS = 100_000
_BALLAST = 4 << 20
"""Bytes of address space that are given up when memory runs out; never touched, so they cost nothing."""

# bound at import, because what a cell puts in their place must not run, or be spared, after its answer
_kernel = importlib.import_module("_signal")  # what `signal` calls by names that a cell can rebind
_setitimer, _handle, _sigmask = _kernel.setitimer, _kernel.signal, _kernel.pthread_sigmask
_settrace, _setprofile = sys.settrace, sys.setprofile
_getrecursionlimit, _setrecursionlimit = sys.getrecursionlimit, sys.setrecursionlimit
_TIMERS = (int(signal.ITIMER_REAL), int(signal.ITIMER_VIRTUAL), int(signal.ITIMER_PROF))
_ALARM, _GOING_ON, _DEFAULT, _UNBLOCK = int(signal.SIGALRM), int(signal.SIGCONT), int(signal.SIG_DFL), int(signal.SIG_UNBLOCK)

Result = tuple[str, str | None]
"""The text, and None, "error" or "timeout"."""


class CellTimeout(BaseException):
    """Raised in a cell when its time is over."""


SHOWN = "/work"
"""How every session shows its working directory."""


class Notebook:
    """A namespace and what running a cell in it needs.

    Args:
        limit: characters of a cell's output.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.hidden: tuple[str, ...] = ()
        """The working directory's present and past names; output shows `SHOWN` instead, so that copies print the same."""
        self.aliases: tuple[tuple[str, str], ...] = ()
        """Paths, and the ones that output shows instead."""
        self.number = 0
        self._module = types.ModuleType("__main__")
        self.namespace = self._module.__dict__
        self._flags = 0
        self._output = Output(limit)
        self._out, self._err, self._in = Stream("<stdout>"), Stream("<stderr>"), NoInput()
        self._waiting = loops.Waiting()
        self._running = False
        self._ballast: mmap.mmap | None = None

    def install(self) -> None:
        """Puts this notebook's module, streams and reports in place of the interpreter's own."""
        sys.modules["__main__"] = self._module
        sys.argv, sys.orig_argv = [""], [""]
        sys.stdin = sys.__stdin__ = self._in  # type: ignore[assignment,misc]  # nobody types there
        self._take_streams()
        sys.set_int_max_str_digits(_DIGITS)  # questions about the digits of long numbers are usual
        sys.unraisablehook = self._report_unraisable
        warnings.showwarning = self._report_warning  # type: ignore[assignment]  # a bound method

    def run(self, code: str, timeout: float) -> Result:
        """Runs a cell; whatever it does, this returns, unless the process ends or blocks its signals.

        Args:
            code: Python source.
            timeout: seconds until it is interrupted.
        """
        self.number += 1
        self._output = Output(self.limit)
        self._take_streams()
        if self._ballast is None:
            with contextlib.suppress(OSError, MemoryError):
                self._ballast = mmap.mmap(-1, _BALLAST, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        error: str | None = None
        try:
            with self._limited(timeout):
                error = self._guarded(code)
        except CellTimeout:
            self._running = False
            self._line(f"timed out after {timeout:g} s; the state up to there is kept")
            error = "timeout"
        finally:
            self._settle()
        return self._text(), error

    def rehearse(self) -> None:
        """Runs a cell that does nothing and is not counted: memory that a copy shares is copied before anyone waits for it."""
        try:
            self.run("0", _REHEARSING)
        finally:
            self.number -= 1

    # --- what runs under the time limit -----------------------------------------------------------

    def _guarded(self, code: str) -> str | None:
        try:
            try:
                self._execute(code)
            finally:
                self._flush_replaced()
        except CellTimeout:
            raise
        except SystemExit as ended:
            return self._exit(ended)
        except BaseException as error:  # noqa: BLE001  # whatever the cell raises, the session continues
            if isinstance(error, MemoryError):
                self._throw_ballast()
            self._line(errors.describe(error))
            return "error"
        return None

    def _execute(self, code: str) -> None:
        self._waiting.settle()
        name = f"{errors.PREFIX}{self.number}>"
        self.namespace["__builtins__"] = builtins
        lines = code.splitlines(keepends=True)
        linecache.cache[name] = (len(code), None, lines, name)
        flags = self._flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(code, name, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        pieces = [compile(tree, name, "exec", flags, dont_inherit=True)]
        for flag in _FEATURES.values():
            self._flags |= pieces[0].co_flags & flag
        if last is not None:
            flags |= self._flags
            pieces.append(compile(ast.Expression(last.value), name, "eval", flags, dont_inherit=True))
        value = self._value(pieces)
        if value is not None:
            self._line(repr(value))

    def _value(self, pieces: Sequence[types.CodeType]) -> object:
        """Executes the pieces of a cell, in a loop if one of them waits, and returns the last one's value."""
        if any(piece.co_flags & inspect.CO_COROUTINE for piece in pieces):
            return self._waiting.run(lambda: self._awaited(pieces))
        return [eval(piece, self.namespace) for piece in pieces][-1]  # this is what the tool is for

    async def _awaited(self, pieces: Sequence[types.CodeType]) -> object:
        value: Any = None
        for piece in pieces:
            value = eval(piece, self.namespace)
            if piece.co_flags & inspect.CO_COROUTINE:
                value = await value
        return value

    def _exit(self, ended: SystemExit) -> str | None:
        code = ended.code
        if code is None or (isinstance(code, int) and code == 0):
            self._line("exit() was called; the session continues")
            return None
        self._line(f"exit() was called with {code!r:.200}; the session continues")
        return "error"

    def _throw_ballast(self) -> None:
        """Makes room to report that there is none."""
        if self._ballast is not None:
            self._ballast.close()
            self._ballast = None

    # --- the time limit -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _limited(self, timeout: float) -> Iterator[None]:
        _handle(_ALARM, self._interrupt)
        _sigmask(_UNBLOCK, (_ALARM,))
        self._running = True
        _setitimer(_TIMERS[0], max(timeout, 0.001), AGAIN)
        try:
            yield
        finally:
            self._running = False

    def _interrupt(self, number: int, frame: types.FrameType | None) -> None:
        if self._running:
            raise CellTimeout

    def _settle(self) -> None:
        """Undoes what a cell may have set that would run its code, or break ours, between two cells."""
        self._running = False
        for timer in _TIMERS:
            _setitimer(timer, 0)
        _handle(_GOING_ON, _DEFAULT)  # which every order begins with
        _settrace(None)
        _setprofile(None)
        if _getrecursionlimit() < _RECURSION:
            _setrecursionlimit(_RECURSION)
        self._throw_ballast()  # reading the next order needs memory as well

    # --- text ---------------------------------------------------------------------------------------

    def _take_streams(self) -> None:
        for stream in (self._out, self._err):
            stream.output = self._output
        sys.stdout = sys.__stdout__ = self._out  # type: ignore[assignment,misc]  # a text stream
        sys.stderr = sys.__stderr__ = self._err  # type: ignore[assignment,misc]  # a text stream

    def _flush_replaced(self) -> None:
        """Has the cell's own streams that it printed to, if any, write what they hold back."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name, None)
            if stream is not self._out and stream is not self._err:
                with contextlib.suppress(Exception):  # whatever it is
                    stream.flush()  # type: ignore[union-attr]  # as above

    def _line(self, text: str) -> None:
        if self._output.line_is_open:
            self._output.write("\n")
        self._output.write(text)

    def _text(self) -> str:
        text = self._output.text().rstrip("\n")
        for path in self.hidden:
            text = text.replace(path, SHOWN)
        for path, shown in self.aliases:
            text = text.replace(path, shown)
        return text

    def _report_warning(self, message: Any, category: type, filename: str, lineno: int, *rest: Any) -> None:
        where = f"{filename}:{lineno}: " if filename.startswith(errors.PREFIX) else ""
        self._err.write(f"{where}{category.__name__}: {message}\n")

    def _report_unraisable(self, report: Any) -> None:
        if isinstance(report.exc_value, CellTimeout):  # it hit a destructor, and will come again
            return
        name = getattr(report.object, "__qualname__", type(report.object).__name__)
        what = errors.last_line(report.exc_value) if report.exc_value is not None else report.exc_type.__name__
        self._err.write(f"Exception ignored in {name}: {what}\n")
