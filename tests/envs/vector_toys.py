"""What the tests of the vector environment share."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from toys import NOTE, Note, NoteSession, TownEnv

from arpo_envs.errors import CloneError
from arpo_envs.tools import Session, ToolResult
from arpo_envs.vector import ForkableVectorEnv

MODES = list(AutoresetMode)
NOTE_A, NOTE_B, ANSWER = "<note>a</note>", "<note>b</note>", "<answer>France</answer>"


def shown(value: Any) -> Any:
    """Returns a copy that compares exactly: arrays as their type and values, and without wall-clock time."""
    if isinstance(value, dict):
        return {key: shown(part) for key, part in value.items() if key != "t"}
    if isinstance(value, tuple | list):
        return [shown(part) for part in value]
    return (str(value.dtype), [shown(part) for part in value.tolist()]) if isinstance(value, np.ndarray) else value


def pair(make: Any, count: int, mode: AutoresetMode) -> tuple[ForkableVectorEnv, SyncVectorEnv[Any, Any]]:
    """Returns our vector environment and Gymnasium's, of the same rows."""
    return ForkableVectorEnv([make] * count, mode), SyncVectorEnv([make] * count, autoreset_mode=mode)


def towns(count: int, mode: AutoresetMode = AutoresetMode.DISABLED, **arguments: Any) -> ForkableVectorEnv:
    """Returns rows of the toy environment."""
    return ForkableVectorEnv([lambda: TownEnv(**arguments)] * count, mode)


class GateSession(NoteSession):
    """Instead of keeping a note, "wait" waits for the gate, and then returns even from a closed session; "break" fails."""

    def __init__(self, notes: list[str], rng: np.random.Generator, gate: "Gate") -> None:
        super().__init__(notes, rng)
        self.gate = gate

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        if arguments["text"] == "wait":
            self.gate.waiting.release()
            self.gate.opened.wait(60)
            return ToolResult(f"{len(self.notes)} notes")
        if arguments["text"] == "break":
            raise OSError("the index is broken")
        return super().call(name, arguments, timeout=timeout)

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        made: list[Session | CloneError] = []
        for i in range(n):
            if i == self.gate.refused:
                made.append(CloneError("no machine is left"))
            else:
                made.append(self.gate.kept(GateSession(list(self.notes), self.copied_rng(), self.gate)))
        return made

    def close(self) -> None:
        super().close()
        if self.gate.opens_when_closed:
            self.gate.opened.set()
        if self.gate.refuses_to_close:
            raise OSError("it does not close")


class Gate(Note):
    """A tool whose sessions wait for one another, break, and cannot always be cloned, as a test wants."""

    specs = (NOTE,)

    def __init__(self) -> None:
        self.opened, self.waiting = threading.Event(), threading.Semaphore(0)
        self.refused: int | None = None
        self.opens_when_closed = self.refuses_to_close = False
        self.sessions: list[GateSession] = []

    def open(self, task: Any, rng: np.random.Generator) -> Session:
        return self.kept(GateSession([], rng, self))

    def kept(self, session: GateSession) -> GateSession:
        self.sessions.append(session)
        return session

    @property
    def live(self) -> int:
        """How many sessions are open."""
        return sum(not session.closed for session in self.sessions)


def tasks(envs: ForkableVectorEnv) -> list[str]:
    """Returns the task of every row."""
    return [env.unwrapped.task.id for env in envs.envs]


def of_row(infos: Mapping[str, Any], place: int) -> dict[str, Any]:
    """Returns one row's info, where its arrays hold one."""
    found = {key: values for key, values in infos.items() if f"_{key}" in infos and infos[f"_{key}"][place]}
    return {
        key: of_row(values, place) if isinstance(values, dict) else shown(values)[1][place] for key, values in found.items()
    }
