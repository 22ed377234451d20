"""A pure tool whose calls are answered by a cache, a recorder or a replayer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import CloneError, ConfigError, ToolFault
from ...forking import ForkLevel
from ...members import ANSWERED, PURE, REQUIRE_READY, TOOL_IDENTITY
from ...tasks import Task
from .. import Session, Tool, ToolResult
from ..spec import ToolSpec
from .answers import Answer, Answers, Cache, Replayer
from .questions import Place, ask, subject_of
from .store import Store


def answered(tool: Tool, answers: Answers) -> Tool:
    """Returns the tool with its calls, or those of its sources, answered by `answers`.

    Args:
        tool: one that declares itself `pure`, or takes answers for its sources (`answered`).
        answers: a `Cache`, a `Recorder` or a `Replayer`.

    Raises:
        ConfigError: it does neither, or its configuration names a credential.
    """
    own = ANSWERED.of(tool)
    if own is not None:
        made: Tool = own(answers)
        return made
    if PURE.of(tool) is None:
        names = ", ".join(spec.name for spec in tool.specs)
        raise ConfigError(
            f"Calls of {names} cannot be answered from a file: {type(tool).__name__} has no attribute `pure`. Give it one if "
            "its answers depend only on the call and on how the tool was made."
        )
    return AnsweredTool(tool, answers)


def cached(tool: Tool, store: Store) -> Tool:
    """Returns the tool with every successful answer kept for good, and equal calls at the same time made once.

    Args:
        tool: see `answered`.
        store: where answers are kept.

    Raises:
        ConfigError: as `answered`.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from arpo_envs import Task
    >>> from arpo_envs.tasks.world import load_world
    >>> from arpo_envs.tools.search import SearchTool
    >>> with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "answers.sqlite") as store:
    ...     tool = cached(SearchTool(load_world(2), results=1), store)
    ...     session = tool.open(Task("t", "Where?", ("there",)), np.random.default_rng(0))
    ...     session.call("search", {"query": "paris"}, timeout=1.0).text[:21], len(store)
    ('Paris: city in France', 1)
    """
    return answered(tool, Cache(store))


class AnsweredTool:
    """A pure tool in front of which somebody answers.

    Its sessions hold nothing but their place, so they are always cloned exactly. A session of the tool itself is opened when
    the first call is really made.

    Args:
        tool: the tool.
        answers: who answers.
    """

    fork_level = ForkLevel.EXACT

    def __init__(self, tool: Tool, answers: Answers) -> None:
        self.tool, self.answers = tool, answers
        self.subject = subject_of(tool, PURE.of(tool) or {}, tool.specs[0].name)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tool's own."""
        return self.tool.specs

    @property
    def identity(self) -> str:
        """The tool's own: a snapshot fits, whoever answers."""
        return TOOL_IDENTITY.of(self.tool)

    @property
    def pure(self) -> Mapping[str, Any]:
        """What the tool's answers depend on: one that is cached can be recorded, too."""
        kind = type(self.tool)
        return {"tool": f"{kind.__module__}.{kind.__qualname__}"} | dict(PURE.of(self.tool) or {})

    def require_ready(self) -> None:
        """Raises `ConfigError` if the tool's calls cannot be made; a replay makes none."""
        if not isinstance(self.answers, Replayer):
            REQUIRE_READY.of(self.tool)()

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        """Starts a session, without starting one of the tool.

        Raises:
            ConfigError: the tool's calls cannot be made, and it is not replayed.
        """
        self.require_ready()
        return _AnsweredSession(self, task, rng, Place.of(task, rng))

    def __deepcopy__(self, memo: dict[int, Any]) -> "AnsweredTool":
        """Returns itself: nothing in it ever changes."""
        return self


class _AnsweredSession:
    def __init__(self, tool: AnsweredTool, task: Task, rng: np.random.Generator, place: Place) -> None:
        self._tool, self._task, self._rng, self._place = tool, task, rng, place
        self._live: Session | None = None
        self._closed = False

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Returns the answer to the call."""
        question = ask(name, self._tool.subject, arguments, self._place)
        self._place = self._place.after(name, arguments)

        def live() -> Answer:
            result = self._opened().call(name, arguments, timeout=timeout)
            return Answer({"text": result.text, "error": result.error}, failed=result.error is not None)

        answer = self._tool.answers.answer(question, live, timeout=timeout)
        return ToolResult(answer.value["text"], answer.value["error"])

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns sessions at the same place, each with a generator of its own."""
        return [_AnsweredSession(self._tool, self._task, _copied(self._rng), self._place) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        """Moves to another place; a pure tool draws nothing."""
        self._place = self._place.reseeded(seed)
        if self._live is not None:
            self._live.reseed(seed)

    def close(self) -> None:
        """Closes the session of the tool, if one was opened."""
        self._closed = True  # first: whoever opens one from now on closes it
        live, self._live = self._live, None
        if live is not None:
            live.close()

    def __getstate__(self) -> dict[str, Any]:
        """Pickles without the session of the tool, which is opened again where it is needed."""
        return vars(self) | {"_live": None}

    def _opened(self) -> Session:
        if self._live is None:
            self._live = live = self._tool.tool.open(self._task, _copied(self._rng))
            if self._closed:  # by a path that no longer waited for this call
                live.close()
        if self._closed or self._live is None:
            raise ToolFault("The session was closed during a call.")
        return self._live


def _copied(rng: np.random.Generator) -> np.random.Generator:
    bits: Any = type(rng.bit_generator)
    twin = np.random.Generator(bits(0))
    twin.bit_generator.state = rng.bit_generator.state
    return twin
