"""A workload in which every duration is known: how long the policy draws, how long a tool runs."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from arpo_envs import Stateless, Task, ToolEnv, ToolResult, ToolSpec
from arpo_envs.rewards import HierarchicalReward

from .. import seeds
from ..policies import Generation, Sampling
from ..policies.scripted import ScriptedPolicy
from ..rollout import Start

Kind = Literal["constant", "lognormal", "hangs"]
TURNS = 10


@dataclass(frozen=True)
class Workload:
    """How long everything takes, in seconds.

    Args:
        turns_P: [P] tool calls of each path; an answer follows them.
        generation_PD: [P, TURNS + 1], of each action.
        tool_PD: [P, TURNS], of each call.
    """

    turns_P: NDArray[np.int64]
    generation_PD: NDArray[np.float64]
    tool_PD: NDArray[np.float64]

    @property
    def starts(self) -> list[Start]:
        """The episodes, one per path."""
        return [Start(path, options={"task": str(path)}) for path in range(len(self.turns_P))]

    @property
    def critical_path(self) -> float:
        """The longest path's own time: no scheduler is faster, even with unlimited machines."""
        spent_P = [
            self.generation_PD[path, : turns + 1].sum() + self.tool_PD[path, :turns].sum()
            for path, turns in enumerate(self.turns_P)
        ]
        return float(max(spent_P))

    @property
    def lockstep(self) -> float:
        """The time of a round-by-round scheduler that costs nothing itself."""
        total = 0.0
        for turn in range(TURNS + 1):
            total += max(
                (float(self.generation_PD[p, turn]) for p, turns in enumerate(self.turns_P) if turns >= turn), default=0.0
            )
            total += max((float(self.tool_PD[p, turn]) for p, turns in enumerate(self.turns_P) if turns > turn), default=0.0)
        return total


def workload(kind: Kind, *, paths: int, seed: int, speed: float) -> Workload:
    """Draws a workload: 1 to 10 calls per path, generation U(0.5, 2) s, and tools of one kind.

    Args:
        kind: "constant": 1 s; "lognormal": σ = 1, mean 1.25 s; "hangs": 1 s, and 30 s with probability 0.05.
        paths: P.
        seed: of the draws.
        speed: all durations are divided by this.

    >>> hangs = workload("hangs", paths=64, seed=1, speed=20.0)
    >>> sorted(set(hangs.tool_PD.ravel().tolist()))
    [0.05, 1.5]
    >>> hangs.critical_path < hangs.lockstep
    True
    """
    rng = seeds.generator(seed, "workload", kind)
    turns_P = rng.integers(1, TURNS + 1, size=paths)
    generation_PD = rng.uniform(0.5, 2.0, size=(paths, TURNS + 1))
    shape = (paths, TURNS)
    tool_PD = {
        "constant": np.ones(shape),
        "lognormal": rng.lognormal(np.log(1.25) - 0.5, 1.0, size=shape),
        "hangs": np.where(rng.random(shape) < 0.05, 30.0, 1.0),
    }[kind]
    return Workload(turns_P, generation_PD / speed, tool_PD / speed)


class Wait(Stateless):
    """A tool that takes the time its workload says."""

    specs = (
        ToolSpec("wait", "Waits.", {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}),
    )

    def __init__(self, work: Workload) -> None:
        self.work = work

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Waits for as long as the call "path turn" takes."""
        path, turn = map(int, arguments["place"].split())
        if seconds := float(self.work.tool_PD[path, turn]):
            time.sleep(seconds)
        return ToolResult("Done.")


class Numbered:
    """Tasks that are identified by their number."""

    name = "numbered"

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns the task with a random number."""
        return self.get(str(rng.integers(1 << 31)))

    def get(self, task_id: str) -> Task:
        """Returns the task with that number."""
        return Task(task_id, f"path {task_id}", ("done",))


def waiting_env(work: Workload) -> ToolEnv:
    """Returns an environment whose one tool is `Wait`."""
    return ToolEnv(tasks=Numbered(), tools=[Wait(work)], reward=HierarchicalReward(), max_turns=TURNS + 2, max_tool_calls=TURNS)


@dataclass
class TimedPolicy:
    """A scripted policy that takes the time its workload says."""

    work: Workload
    script: ScriptedPolicy
    context_length: int = 1 << 20
    vocabulary_size: int = 0x110000
    version: int = 0

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        """Waits, then writes; see `Policy.generate`."""
        path, turn = place("".join(map(chr, context)))
        if seconds := float(self.work.generation_PD[path, turn]):
            await asyncio.sleep(seconds)
        return await self.script.generate(context, params, seed=seed, offset=offset, tail=tail)

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Sets the version."""
        self.version = version

    async def close(self) -> None:
        """Holds nothing."""


def timed_policy(work: Workload) -> TimedPolicy:
    """Returns the policy that calls `wait` as often as its path says, then answers."""

    def script(before: str, seed: int) -> str:
        path, turn = place(before)
        return f"<wait>{path} {turn}</wait>" if turn < work.turns_P[path] else "<answer>done</answer>"

    return TimedPolicy(work, ScriptedPolicy(script))


def place(before: str) -> tuple[int, int]:
    """Returns (path, turn) of a context.

    >>> place("path 7" + chr(10) + "<wait>7 0</wait><result>Done.</result>")
    (7, 1)
    """
    return int(before.split("\n", 1)[0].removeprefix("path ")), before.count("</result>")
