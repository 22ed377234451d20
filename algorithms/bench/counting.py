"""A tool's own count of its calls: a proxy that sees every call that actually runs."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from arpo_envs import CloneError, ConfigError, ForkLevel, Session, Task, Tool, ToolEnv, ToolResult, ToolSpec, members

from ..rollout import TextEnv


class Counter:
    """A number that several threads may add to."""

    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """Counts one call."""
        with self._lock:
            self.calls += 1


class CountedTool:
    """A tool whose sessions, and all clones of them, count their calls.

    Args:
        tool: does the work.
        counter: counts every call.
    """

    def __init__(self, tool: Tool, counter: Counter) -> None:
        self._tool, self._counter = tool, counter

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tool's own."""
        return self._tool.specs

    @property
    def fork_level(self) -> ForkLevel:
        """The tool's own."""
        return self._tool.fork_level

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        """Returns a counting session."""
        return _CountedSession(self._tool.open(task, rng), self._counter)


class _CountedSession:
    def __init__(self, session: Session, counter: Counter) -> None:
        self._session, self._counter = session, counter

    @property
    def replayed_calls(self) -> int:
        """The session's own."""
        return members.REPLAYED_CALLS.of(self._session)

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Counts, then calls."""
        self._counter.add()
        return self._session.call(name, arguments, timeout=timeout)

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns clones that share the counter."""
        children = self._session.clone(n)
        return [child if isinstance(child, CloneError) else _CountedSession(child, self._counter) for child in children]

    def reseed(self, seed: int) -> None:
        """Passes it on."""
        self._session.reseed(seed)

    def close(self) -> None:
        """Passes it on."""
        self._session.close()


def counted(env: TextEnv, counter: Counter) -> TextEnv:
    """Makes an environment count its tool calls; to be called before its first reset.

    Raises:
        ConfigError: it is not a `ToolEnv`, whose tools are known.
    """
    base = env.unwrapped
    if not isinstance(base, ToolEnv):
        raise ConfigError(f"{type(base).__name__} is not a ToolEnv: its tool calls cannot be counted from inside.")
    base.tools = tuple(CountedTool(tool, counter) for tool in base.tools)
    return env
