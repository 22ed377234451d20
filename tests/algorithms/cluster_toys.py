"""What the tests of clusters start in other processes: players by a script, and environments that end their own process."""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollout_toys import Coin, CountEnv, CountTool, History, Plan, varied

from algorithms.cluster import ClusterPolicy, Engines, Equipment, Launcher, Listener, Lost, Patience, collect_elsewhere
from algorithms.cluster.local import LocalLauncher
from algorithms.cluster.parcel import unpacked
from algorithms.cluster.published import as_numbers
from algorithms.cluster.worker import Answer, Worker
from algorithms.policies import Generation
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Collected, Start, try_collect
from arpo_envs import ConfigError, ToolLost
from arpo_envs.tools import ToolResult

HASTY = Patience(start=60.0, look=0.2, silence=2.0, attempts=3, pause=0.01)


@dataclass(frozen=True)
class Scripted:
    """Makes a worker's equipment without torch.

    Args:
        fault: what making it does: "", "mistake" or "broken".
    """

    fault: str = ""

    def __call__(self) -> Equipment:
        if self.fault == "mistake":
            raise ConfigError("These parts do not fit together.")
        if self.fault == "broken":
            raise OSError("no such device")
        return Equipment(ScriptedPolicy(varied), ScriptedRenderer())


class Mortal(ScriptedPolicy):
    """Answers so many requests, and then nothing any more, as an engine whose process has died."""

    def __init__(self, requests: int) -> None:
        super().__init__(varied)
        self.left = requests

    async def generate(self, *arguments: Any, **told: Any) -> Generation:
        self._live()
        self.left -= 1
        return await super().generate(*arguments, **told)

    async def forget(self) -> None:
        self._live()

    def _live(self) -> None:
        if self.left <= 0:
            raise RuntimeError("The engine's process died.")


@dataclass
class Mortals:
    """Makes policies that die, and others once enough have; in this process only.

    Args:
        dying: how many of them die.
        requests: how many each of these answers before.
    """

    dying: int
    requests: int

    def __call__(self) -> Equipment:
        self.dying -= 1
        return Equipment(Mortal(self.requests if self.dying >= 0 else 1 << 30), ScriptedRenderer())


@dataclass(frozen=True)
class Nesting:
    """Makes a worker's equipment as an engine does that starts a process and holds a temporary folder.

    Args:
        told: folder in which a file names both.
    """

    told: Path

    def __call__(self) -> Equipment:
        inner = subprocess.Popen(["sleep", "600"])
        folder = tempfile.mkdtemp(prefix="arpo-vllm-")
        (self.told / f"{time.monotonic_ns()}").write_text(f"{inner.pid} {folder}", encoding="utf-8")
        return Scripted()()

    def left(self) -> list[int | Path]:
        """Returns which processes and folders there are."""
        found: list[int | Path] = []
        for file in sorted(self.told.iterdir()):
            pid, folder = file.read_text(encoding="utf-8").split()
            found += [int(pid)] if lives(int(pid)) else []
            found += [Path(folder)] if Path(folder).exists() else []
        return found

    def gone(self) -> bool:
        """Whether nothing is left; what is killed takes a moment to end."""
        for _ in range(300):
            if not self.left():
                return True
            time.sleep(0.1)
        return False


def lives(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end while its file is read
        return False


@dataclass(frozen=True)
class Disaster:
    """Makes environments in which the tool does something to its process, as often as there are tokens in a folder.

    Args:
        what: name of a function below.
        tokens: a folder with a file for each time that it shall happen.
    """

    what: str
    tokens: Path

    def __call__(self) -> CountEnv:
        def hook(history: History) -> ToolResult | None:
            for token in sorted(self.tokens.iterdir()):
                try:
                    token.unlink()  # by one process only
                except FileNotFoundError:
                    continue
                DISASTERS[self.what]()
                break
            return None

        return CountEnv(CountTool(hook=hook))


def _mistaken() -> None:
    raise ConfigError("No such thing.")


def _lost() -> None:
    raise ToolLost("no answer")


DISASTERS: Mapping[str, Callable[[], None]] = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "slow": lambda: time.sleep(1.0),
    "raises": _mistaken,
    "loses its tool": _lost,
}


class Weightless(LocalLauncher):
    """Starts processes whose policies have no weights."""

    def publish(self, weights: Mapping[str, Any], version: int) -> Any:
        return {}

    def withdraw(self, published: Any) -> None:
        assert published == {}


@dataclass
class InProcess:
    """Keeps workers in this process, and loses them as told: what engines do about it is tested without starting any.

    Args:
        fates: of the calls of a method, in order: "" as usual, "before" or "after" the work is done, "mute" for none at all,
            "hangs" for none either, with signs of life.
        method: that is struck.
    """

    fates: Iterator[str]
    method: str = "grow"
    made: int = 0
    alive: list[Worker] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)
    silent: list[Worker] = field(default_factory=list)
    ending: list[asyncio.Future[None]] = field(default_factory=list)

    def create(self, make: Any) -> Worker:
        self.made += 1
        self.alive.append(Worker(make))
        return self.alive[-1]

    async def call(self, worker: Worker, method: str, *arguments: Any) -> Answer:
        assert worker in self.alive, "it was killed"
        fate = next(self.fates, "") if method == self.method else ""
        if fate == "before":
            raise Lost("Struck before.")
        if fate == "mute":
            self.silent.append(worker)
        if fate in ("mute", "hangs"):
            await asyncio.sleep(60.0)
        answer = await worker.answer(method, *arguments)
        if fate == "after":
            raise Lost("Struck after.")
        if method == "grow" and answer.error is None:
            version = worker._equipment.policy.version
            self.seen += [(tree.meta["seed"], version) for tree in unpacked(answer.value.trees)]
        return answer

    async def health(self, worker: Worker, within: float) -> bool:
        return worker not in self.silent

    def kill(self, worker: Worker) -> None:
        if worker in self.alive:
            self.alive.remove(worker)
            self.ending.append(asyncio.ensure_future(worker._end_batch()))

    def publish(self, weights: Mapping[str, Any], version: int) -> Any:
        return as_numbers(weights)

    def withdraw(self, published: Any) -> None:
        assert isinstance(published, dict)

    async def close(self) -> None:
        self.alive.clear()
        await asyncio.gather(*self.ending)


PLAN = Plan(Coin(roots=2, probability=0.5), rollouts=4)


def starts(count: int) -> list[Start]:
    return [Start(seed=i) for i in range(count)]


def disaster(folder: Path, what: str, times: int) -> Disaster:
    """Returns what makes environments in which something happens so many times."""
    folder.mkdir()
    for number in range(times):
        (folder / str(number)).touch()
    return Disaster(what, folder)


async def alone(make_env: Callable[[], Any], count: int, **told: Any) -> Collected:
    """Returns what one process collects."""
    policy, renderer = ScriptedPolicy(varied, version=7), ScriptedRenderer()
    return await try_collect(make_env, starts(count), policy, renderer, PLAN, **({"seed": 3, "step": 5} | told))


@asynccontextmanager
async def engines(launcher: Launcher, make: Any = Scripted(), count: int = 2, patience: Patience = HASTY) -> AsyncIterator[Any]:
    """Gives the stand-in of engines, with the lines told of them as `lines`; ends them afterwards."""
    lines: list[str] = []
    policy = ClusterPolicy(Engines(launcher, make, count, patience, Listener(lines.append)))
    policy.lines = lines  # type: ignore[attr-defined]
    try:
        await policy.load({}, 7)
        yield policy
    finally:
        await policy.close()


async def elsewhere(
    policy: ClusterPolicy, make_env: Callable[[], Any], count: int, plan: Plan = PLAN, **told: Any
) -> Collected:
    """Returns what engines collect."""
    told = {"seed": 3, "step": 5} | told
    return await collect_elsewhere(make_env, starts(count), policy, ScriptedRenderer(), plan, **told)
