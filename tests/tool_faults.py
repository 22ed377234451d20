"""Tools and sessions with one planted fault each, and the law each of them breaks."""

import os
import threading
from typing import Any, ClassVar

import numpy as np
from toys import NOTE, Echo, Note, NoteSession

from arpo_envs.errors import CloneError
from arpo_envs.testing import Law
from arpo_envs.tools import Session, ToolResult, ToolSpec


class RunsAgainSession(NoteSession):
    """Says EXACT (its tool does), and replays its calls."""

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        children = []
        for _ in range(n):
            child = type(self)([], self.copied_rng())
            for note in self.notes:
                child.call("note", {"text": note}, timeout=1)
            child.rng = self.copied_rng()
            children.append(child)
        return children


class RunsAgain(Note):
    session = RunsAgainSession


class DeafSession(NoteSession):
    def reseed(self, seed: int) -> None:
        pass


class DeafNote(Note):
    session = DeafSession


class FreshEntropySession(NoteSession):
    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng()


class FreshEntropy(Note):
    session = FreshEntropySession


class ItselfSession(NoteSession):
    """Has state and returns itself."""

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [self] * n


class Itself(Note):
    session = ItselfSession


class SharedEngine:
    open = True


class SharedEngineSession(NoteSession):
    """All clones use one engine, and the first to close closes it."""

    def __init__(self, notes: list[str], rng: np.random.Generator, engine: SharedEngine | None = None) -> None:
        super().__init__(notes, rng)
        self.engine = engine or SharedEngine()

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [type(self)(list(self.notes), self.copied_rng(), self.engine) for _ in range(n)]

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        result = super().call(name, arguments, timeout=timeout)
        return result if self.engine.open else ToolResult("The engine is gone.", "closed")

    def close(self) -> None:
        self.engine.open = False


class ClosesShared(Note):
    session = SharedEngineSession


class Registered(NoteSession):
    """Every session ever made is remembered."""

    everyone: ClassVar[list[Session]] = []

    def __init__(self, notes: list[str], rng: np.random.Generator) -> None:
        super().__init__(notes, rng)
        self.everyone.append(self)


class NeverForgets(Note):
    session = Registered


class ThreadedSession(NoteSession):
    """Starts a thread that close() does not end."""

    release = threading.Event()
    started: ClassVar[list[threading.Thread]] = []

    def __init__(self, notes: list[str], rng: np.random.Generator) -> None:
        super().__init__(notes, rng)
        self.started.append(threading.Thread(target=self.release.wait, daemon=True))
        self.started[-1].start()


class LeavesThreads(Note):
    session = ThreadedSession


class PipeSession(NoteSession):
    """Opens a pipe and does not close it."""

    opened: ClassVar[list[int]] = []

    def __init__(self, notes: list[str], rng: np.random.Generator) -> None:
        super().__init__(notes, rng)
        self.opened.extend(os.pipe())


class LeavesPipes(Note):
    session = PipeSession


class ChildSession(NoteSession):
    """Starts a process and does not reap it."""

    started: ClassVar[list[int]] = []

    def __init__(self, notes: list[str], rng: np.random.Generator) -> None:
        super().__init__(notes, rng)
        self.started.append(os.posix_spawn("/bin/true", ["true"], {}))


class LeavesChildren(Note):
    session = ChildSession


class Raises(Echo):
    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        return ToolResult(arguments["text"].encode().decode())  # a lone surrogate does not encode


class ReturnsText(Echo):
    def call(self, name: str, arguments: Any, *, timeout: float) -> Any:
        return arguments["text"]


class ReturnsErrorObject(Echo):
    def call(self, name: str, arguments: Any, *, timeout: float) -> Any:
        return ToolResult("no", ValueError("no"))


class NamedAnswer(Echo):
    specs = (ToolSpec("answer", "Says it back.", NOTE.parameters),)


class Misdescribed(Echo):
    specs = (ToolSpec("echo", "", {"type": "string", "required": ["text"]}),)


class PairsAsKeys(Echo):
    """Its example could be called by a program, and by no model: JSON knows no such keys."""

    specs = (
        ToolSpec(
            "echo",
            "Says it back.",
            {"type": "object", "properties": {"text": {"type": "string"}, "at": {"type": "object"}}, "required": ["text"]},
            examples=({"text": "x", "at": {1: 2}},),
        ),
    )


class CountsOnTool(Echo):
    """A tool that changes: sessions hear of each other."""

    def __init__(self) -> None:
        self.calls = 0

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        self.calls += 1
        return ToolResult(str(self.calls))


class TooFew(Note):
    class session(NoteSession):
        def clone(self, n: int = 1) -> list[Session | CloneError]:
            return super().clone(1)


TOOL_FAULTS = [
    (Law.SPECS, NamedAnswer()),
    (Law.SPECS, Misdescribed()),
    (Law.SPECS, PairsAsKeys()),
    (Law.RESULTS, ReturnsText()),
    (Law.RESULTS, ReturnsErrorObject()),
    (Law.REPRODUCIBLE, CountsOnTool()),
    (Law.MISTAKES, Raises()),
    (Law.INDEPENDENT, Itself()),
    (Law.INDEPENDENT, TooFew()),
    (Law.RESEED, DeafNote()),
    (Law.RESEED, FreshEntropy()),
    (Law.CLOSE, Itself()),
    (Law.CLOSE, ClosesShared()),
    (Law.NO_OBJECT_LEAKS, NeverForgets()),
    (Law.NO_OBJECT_LEAKS, LeavesThreads()),
    (Law.NO_HANDLE_LEAKS, LeavesPipes()),
    (Law.NO_HANDLE_LEAKS, LeavesChildren()),
]


def clean_up() -> None:
    """Ends what the leaking sessions left behind."""
    ThreadedSession.release.set()
    Registered.everyone.clear()
    while PipeSession.opened:
        os.close(PipeSession.opened.pop())
    while ChildSession.started:
        os.waitpid(ChildSession.started.pop(), 0)
    while ThreadedSession.started:
        ThreadedSession.started.pop().join(timeout=5)
    ThreadedSession.release.clear()
