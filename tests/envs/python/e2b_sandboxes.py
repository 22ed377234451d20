"""Interpreters that really fork, one process per sandbox: what stands behind the loopback server of `e2b_server`.

Run as a script it is the zygote: a process without threads that forks an interpreter for every
socket it is handed. An interpreter runs cells as Jupyter does (state persists, the last expression
is echoed, errors come with a coloured traceback), and forks itself when it is handed another socket.
"""

import array
import ast
import contextlib
import io
import json
import linecache
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Lines:
    """Reads lines of JSON, and the descriptors that came with them, from a socket."""

    def __init__(self, link: socket.socket) -> None:
        self.link, self.buffer, self.descriptors = link, b"", array.array("i")

    def next(self) -> Event | None:
        while b"\n" not in self.buffer:
            data, descriptors, _, _ = socket.recv_fds(self.link, 1 << 16, 4)
            self.descriptors.extend(descriptors)
            if not data:
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return dict(json.loads(line))


# --- the side of the server ------------------------------------------------------------------------------


class Zygote:
    """Starts interpreters; its own process, because the server's has threads."""

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        command = [sys.executable, str(Path(__file__)), str(theirs.fileno())]
        alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=os.environ | alone)
        theirs.close()
        self.link = mine

    def start(self, home: Path) -> "Interpreter":
        """Returns a fresh interpreter whose working directory is `home`."""
        return _asked(self.link, home)

    def close(self) -> None:
        self.link.close()
        self.process.wait(timeout=10)


class Interpreter:
    """One interpreter, seen from the server."""

    def __init__(self, link: socket.socket) -> None:
        self.link, self.lines = link, Lines(link)
        self.pid = int((self.lines.next() or {"pid": 0})["pid"])

    def fork(self, home: Path) -> "Interpreter":
        """Returns a copy of the interpreter as it is now, working in a copy of its directory at `home`."""
        return _asked(self.link, home)

    def execute(self, code: str) -> Iterator[Event | None]:
        """Yields the events of a cell as they come, None every 50 ms, and ends with the cell, or with the process."""
        try:
            self.link.sendall(json.dumps({"code": code}).encode() + b"\n")
        except OSError:
            return
        while True:
            event = self._event()
            if event is not None and event["type"] == "gone":
                return
            yield event
            if event is not None and event["type"] == "end_of_execution":
                return

    def _event(self) -> Event | None:
        self.link.settimeout(0.05)
        try:
            return self.lines.next() or {"type": "gone"}
        except TimeoutError:
            return None
        except OSError:
            return {"type": "gone"}
        finally:
            self.link.settimeout(None)

    def interrupt(self) -> None:
        self._signal(signal.SIGINT)

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self.link.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pid > 0:
                os.kill(self.pid, number)


def _asked(link: socket.socket, home: Path) -> Interpreter:
    mine, theirs = socket.socketpair()
    socket.send_fds(link, [json.dumps({"home": str(home)}).encode() + b"\n"], [theirs.fileno()])
    theirs.close()
    return Interpreter(mine)


# --- the other side --------------------------------------------------------------------------------------


class Stream(io.TextIOBase):
    """Standard output or error: sends what is written, a line or 4096 characters at a time."""

    def __init__(self, kind: str) -> None:
        self.kind, self.pending = kind, ""

    def write(self, text: str) -> int:
        self.pending += text
        if "\n" in text or len(self.pending) >= 4096:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self.pending = self.pending, ""
        if text:
            emit({"type": self.kind, "text": text, "timestamp": time.time_ns()})


class Notebook:
    """Runs cells in one namespace, as IPython would."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.count = 0

    def run(self, code: str) -> None:
        self.count += 1
        emit({"type": "number_of_executions", "execution_count": self.count})
        sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
        name = f"<cell {self.count}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                self._run(code, name)
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        except BaseException as error:  # a cell may raise anything
            sys.stdout.flush()
            emit({"type": "error", "name": type(error).__name__, "value": str(error), "traceback": self._told(error, name)})
        sys.stdout.flush()
        sys.stderr.flush()
        emit({"type": "end_of_execution"})

    def _run(self, code: str, name: str) -> None:
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), self.namespace)  # noqa: S102  # it is what it is for
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), self.namespace)
            if value is not None:
                self.namespace["_"] = value
                text = repr(value)
                if text.startswith("'") and text.endswith("'"):
                    text = text[1:-1]  # as E2B's server does
                sys.stdout.flush()
                sys.stderr.flush()
                emit({"type": "result", "text": text, "is_main_result": True, "extra": {}})

    def _told(self, error: BaseException, name: str) -> str:
        """Returns a traceback in IPython's form, colours included."""
        kind, cell = type(error).__name__, f"{_CYAN}Cell{_PLAIN}{_CYAN} {_PLAIN}{_GREEN}In[{self.count}]{_PLAIN}{_GREEN}, line "
        title = f"{_RED}{kind}{_PLAIN}: {error}"
        if isinstance(error, SyntaxError):
            return f"  {cell}{error.lineno}{_PLAIN}\n{_RED}    {_PLAIN}{(error.text or '').strip()}\n       ^\n{title}\n"
        told = f"{_RED}{'-' * 75}{_PLAIN}{_RED}{kind}{_PLAIN}                  Traceback (most recent call last)"
        for frame in traceback.extract_tb(error.__traceback__):
            inside = f", in {_CYAN}{frame.name}{_PLAIN}{_BLUE}(){_PLAIN}" if frame.name != "<module>" else ""
            arrow = f"{_GREEN}----> {_PLAIN}{_GREEN}{frame.lineno}{_PLAIN} {frame.line}\n"
            if frame.filename == name:
                told += f"{cell}{frame.lineno}{_PLAIN}{inside}\n{arrow}"
            elif frame.filename != __file__:
                told += f"{_CYAN}File {_PLAIN}{_GREEN}{frame.filename}:{frame.lineno}{_PLAIN}{inside}\n{arrow}"
        return told + title


_RED, _GREEN, _BLUE, _CYAN, _PLAIN = (f"\x1b[{number}m" for number in (31, 32, 34, 36, 39))
_link: socket.socket


def emit(event: Event) -> None:
    _link.sendall(json.dumps(event).encode() + b"\n")


def serve(link: socket.socket) -> None:
    """Runs cells and forks, until the other end is closed; the fork goes on with the new socket."""
    global _link
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _link, lines, notebook = link, Lines(link), Notebook()
    emit({"pid": os.getpid()})
    while (message := lines.next()) is not None:
        if "code" in message:
            notebook.run(message["code"])
            continue
        other, state = lines.descriptors.pop(0), random.getstate()
        if os.fork():
            os.close(other)
            continue
        _link.close()
        _link = socket.socket(fileno=other)
        lines = Lines(_link)
        random.setstate(state)  # a virtual machine's fork does not seed it anew, as Python's does
        shutil.copytree(Path.cwd(), message["home"], dirs_exist_ok=True)
        os.chdir(message["home"])
        emit({"pid": os.getpid()})


def main(descriptor: int) -> None:
    """The zygote: forks an interpreter for every socket it is handed."""
    import numpy.random  # noqa: F401  # once, for all who fork from here

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    control = socket.socket(fileno=descriptor)
    lines = Lines(control)
    while (message := lines.next()) is not None:
        link = socket.socket(fileno=lines.descriptors.pop(0))
        if not os.fork():
            control.close()
            os.chdir(message["home"])
            with contextlib.suppress(OSError):
                serve(link)
            os._exit(0)
        link.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]))
