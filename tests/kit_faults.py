"""Faults that a kit must find and explain: threads, timeouts, what is lost where, and numbers that are none."""

import math
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from toys import DicelessSession, Echo, Note, NoteSession, TownEnv, Walk

from arpo_envs.core import Score
from arpo_envs.errors import CloneError
from arpo_envs.tools import Session, ToolResult, ToolSpec

SQL = {"type": "object", "properties": {"sql": {"type": "string"}}, "required": ["sql"]}
INSERT = ("sql", {"sql": "insert into note(text) values ('x')"})
ROW_ID = ("sql", {"sql": "select last_insert_rowid()"})
COUNT = ("sql", {"sql": "select count(*) from note"})


# --- threads ------------------------------------------------------------------------------------------------


class Database:
    """A session with a table; its clone has the table, and forgets what only the connection knew."""

    same_thread = False

    def __init__(self, rows: sqlite3.Connection | None = None) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=self.same_thread, isolation_level=None)
        if rows is None:
            self.connection.execute("create table note(id integer primary key, text)")
        else:
            rows.backup(self.connection)

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        try:
            return ToolResult(str(self.connection.execute(arguments["sql"]).fetchall()))
        except (sqlite3.Error, ValueError) as error:
            if "thread" in str(error):
                raise
            return ToolResult(str(error), "sql")

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [type(self)(self.connection) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        pass

    def close(self) -> None:
        self.connection.close()


class OneThreadDatabase(Database):
    same_thread = True


class SqlTool:
    """Answers SQL."""

    specs = (ToolSpec("sql", "Runs SQL.", SQL, examples=(INSERT[1], COUNT[1])),)
    fork_level = Note.fork_level

    def __init__(self, session: type[Database]) -> None:
        self.session = session

    def open(self, task: Any, rng: np.random.Generator) -> Session:
        return self.session()


class LocalSession(DicelessSession):
    """Counts where only the thread that counted finds it."""

    def __init__(self, notes: list[str], rng: np.random.Generator, count: int = 0) -> None:
        super().__init__(notes, rng)
        self.local = threading.local()
        self.local.count = count

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        self.local.count = getattr(self.local, "count", 0) + 1
        return ToolResult(f"{self.local.count} notes")

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [LocalSession([], self.copied_rng(), getattr(self.local, "count", 0)) for _ in range(n)]


class AlarmSession(DicelessSession):
    """Bounds its time by a signal, which only the main thread may set."""

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
        try:
            return super().call(name, arguments, timeout=timeout)
        finally:
            signal.signal(signal.SIGALRM, before)


class ClosesInItsThread(DicelessSession):
    def __init__(self, notes: list[str], rng: np.random.Generator) -> None:
        super().__init__(notes, rng)
        self.opened = threading.get_ident()

    def close(self) -> None:
        if threading.get_ident() != self.opened:
            raise RuntimeError("closed from another thread")


class OneBuffer(DicelessSession):
    """All sessions write into one buffer for a moment: one after the other, nobody notices."""

    buffer: Any = None

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        OneBuffer.buffer = id(self)
        time.sleep(0.002)
        self.notes.append("")
        return ToolResult(f"{len(self.notes)} {OneBuffer.buffer == id(self)}")


def note(session: type[NoteSession]) -> Note:
    """Returns the note-taking tool with another session."""
    return type("Note", (Note,), {"session": session})()


THREAD_FAULTS: list[Callable[[], Any]] = [
    lambda: SqlTool(OneThreadDatabase),
    lambda: note(AlarmSession),
    lambda: note(ClosesInItsThread),
]


# --- timeouts -----------------------------------------------------------------------------------------------


class Sleeps(Echo):
    """Takes its time, whatever the timeout."""

    def __init__(self, seconds: float, when: str = "") -> None:
        self.seconds, self.when = seconds, when

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        if self.when in arguments["text"]:
            self.rest(timeout)
        return super().call(name, arguments, timeout=timeout)

    def rest(self, timeout: float) -> None:
        time.sleep(self.seconds)


class SleepsLonger(Sleeps):
    """Takes so many seconds more than it may."""

    def rest(self, timeout: float) -> None:
        time.sleep(timeout + self.seconds)


class KeepsTime(Sleeps):
    """An honest one."""

    def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
        if self.when in arguments["text"] and self.seconds > timeout:
            time.sleep(timeout)
            return ToolResult("It took too long.", "timeout")
        return super().call(name, arguments, timeout=timeout)


SLOW = ("echo", {"text": "slow"})
QUICK = ("echo", {"text": "quick"})
TIMEOUT_FAULTS: list[tuple[Any, dict[str, Any]]] = [
    (Sleeps(3600.0), {"timeout": 0.2}),
    (Sleeps(0.8), {"calls": [QUICK]}),
    (Sleeps(1.0), {"calls": [QUICK], "timeout": 0.5}),
    (Sleeps(0.8, "slow"), {"calls": [QUICK, SLOW, QUICK]}),
    (Sleeps(3600.0, "aaaa"), {"timeout": 0.2}),
    (Sleeps(0.7, "slow"), {"calls": [QUICK], "slow": SLOW}),
    (Sleeps(3600.0, "slow"), {"calls": [QUICK], "slow": SLOW, "timeout": 0.2}),
    (SleepsLonger(0.4), {"timeout": 0.1}),
    (SleepsLonger(2.0), {"timeout": 0.1}),
]


# --- what is lost, and where ----------------------------------------------------------------------------------


class ForgetsAfter(DicelessSession):
    """Its clones forget a note, but only those that are taken after so many."""

    when = 2

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        kept = self.notes[1:] if len(self.notes) == self.when else self.notes
        return [type(self)(list(kept), self.copied_rng()) for _ in range(n)]


class ForgetsAfterAll(ForgetsAfter):
    when = 3


class ForgetsAll(ForgetsAfter):
    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [type(self)([], self.copied_rng()) for _ in range(n)]


class ForgetsInClonesOfClones(DicelessSession):
    copied = False

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        twins = [type(self)([] if self.copied else list(self.notes), self.copied_rng()) for _ in range(n)]
        for twin in twins:
            twin.copied = True
        return list(twins)


class ForgetsItsDie(NoteSession):
    def copied_rng(self) -> np.random.Generator:
        return np.random.default_rng(0)


LOSSES: list[tuple[Any, dict[str, Any]]] = [
    (SqlTool(Database), {"calls": [INSERT, INSERT, ROW_ID]}),
    (SqlTool(Database), {"calls": [INSERT, ROW_ID]}),
    (SqlTool(Database), {"calls": [ROW_ID, INSERT]}),
    (SqlTool(Database), {"calls": [INSERT, COUNT, COUNT, COUNT, ROW_ID, COUNT, COUNT, COUNT]}),
    (note(ForgetsAfter), {}),
    (note(ForgetsAfterAll), {}),
    (note(ForgetsAll), {}),
    (note(ForgetsInClonesOfClones), {}),
    (note(ForgetsItsDie), {}),
]


class DrawsForClones(NoteSession):
    """Cloning draws from the original's generator, as numpy's spawn would not."""

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        twins = super().clone(n)
        self.rng.random()
        return twins


class GivesItsNotes(DicelessSession):
    """Cloning takes the notes away from the original."""

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        twins = super().clone(n)
        self.notes = []
        return twins


CHANGED = [note(DrawsForClones), note(GivesItsNotes)]


# --- numbers --------------------------------------------------------------------------------------------------


class Pays(Walk):
    """Pays something in its second step."""

    def __init__(self, reward: Any = 0.0, info: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.paid, self.told = reward, info or {}

    def step(self, action: int) -> Any:
        observation, _, *rest, info = super().step(action)
        second = len(self.path) == 3
        return observation, self.paid if second else 0.0, *rest, info | (self.told if second else {})


def judged(rule: Callable[[Any, Any], Score]) -> TownEnv:
    """Returns an environment with another reward rule."""
    env = TownEnv()
    env.reward = rule
    return env


NUMBER_FAULTS: list[Callable[[], Any]] = [
    *(lambda paid=paid: Pays(paid) for paid in (math.nan, math.inf, -math.inf, 1e30, np.float32("nan"), None, "1", "x", [1.0])),
    *(lambda said=said: Pays(0.0, {"success": said}) for said in (7, -0.01, 1.01, math.nan, math.inf, "yes", [1], 10**400)),
    lambda: judged(lambda task, outcome: Score(-abs(float(outcome.answer or 0)), 0.0)),
    lambda: judged(lambda task, outcome: Score(math.inf if outcome.answer in task.answers else 0.0, 0.0)),
    lambda: judged(lambda task, outcome: Score(1.0, 7.0 if outcome.answer in task.answers else 0.0)),
    lambda: judged(lambda task, outcome: Score(0.0 if outcome.answer is not None else math.nan, 0.0)),
    lambda: judged(lambda task, outcome: Score(int(outcome.answer) / 10 if str(outcome.answer).isdecimal() else 0.0, 0.0)),
]
NUMBERS = [*(lambda paid=paid: Pays(paid) for paid in (0, True, -1e18, np.float32(0.5), np.array(1.0), 10**17)),
           *(lambda said=said: Pays(0.0, {"success": said}) for said in (None, True, 0, 1.0, np.float64(0.5)))]  # fmt: skip
