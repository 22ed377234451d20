"""Sessions of the local Python interpreter for tests, in every mode this machine offers."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from arpo_envs.tasks import Task
from arpo_envs.tools import ToolResult
from arpo_envs.tools.python import PythonSession, PythonTool, SandboxUnavailable

MODES = ("full", "no-namespaces")
TASK = Task("check", "What is checked?", ("nothing",))


def open_session(tool: PythonTool, seed: int = 0) -> PythonSession:
    session = tool.open(TASK, np.random.default_rng(seed))
    assert isinstance(session, PythonSession)
    return session


def usable_tool(mode: str, **arguments) -> PythonTool:
    """Returns a tool whose server runs; skips by name where the machine has no such mode."""
    tool = PythonTool(layers=mode, **arguments)
    try:
        open_session(tool).close()
    except SandboxUnavailable as missing:
        pytest.skip(f"mode {mode}: {missing}")
    return tool


@contextlib.contextmanager
def opened(tool: PythonTool, seed: int = 0) -> Iterator[PythonSession]:
    session = open_session(tool, seed)
    try:
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def cloned(session: PythonSession, n: int = 1) -> Iterator[list[PythonSession]]:
    twins = session.clone(n)
    try:
        assert all(isinstance(twin, PythonSession) for twin in twins), twins
        yield twins
    finally:
        for twin in twins:
            if isinstance(twin, PythonSession):
                twin.close()


def run(session: PythonSession, code: str, timeout: float = 20.0) -> ToolResult:
    return session.call("python", {"code": code}, timeout=timeout)


def text(session: PythonSession, code: str) -> str:
    """Runs a cell that must succeed."""
    result = run(session, code)
    assert result.error is None, result
    return result.text


def rest(*sessions: PythonSession) -> None:
    """Waits until the checkpoints of the next cells are there."""
    for session in sessions:
        if session._shadow is not None:
            wait([session._shadow], 60)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def descendants(pid: int) -> set[int]:
    """Returns the processes below a process, dead ones that nobody has reaped excluded."""
    children: dict[int, set[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), set()).add(int(folder.name))
    found: set[int] = set()
    below = [pid]
    while below:
        for child in children.get(below.pop(), set()) - found:
            found.add(child)
            below.append(child)
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def folders(parent: str) -> set[str]:
    return {name for name in os.listdir(parent) if name.startswith("arpo-python-")}
