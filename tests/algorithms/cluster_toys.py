"""What the tests of clusters start in other processes: players by a script, and environments that end their own process."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rollout_toys import Coin, CountEnv, CountTool, History, Plan, varied

from algorithms.cluster import ClusterPolicy, Engines, Equipment, Launcher, Patience, collect_elsewhere
from algorithms.cluster.local import LocalLauncher
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Collected, Failures, Limits, Start, try_collect
from arpo_envs import ConfigError
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


DISASTERS: Mapping[str, Callable[[], None]] = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "slow": lambda: time.sleep(1.0),
    "raises": _mistaken,
}


class Weightless(LocalLauncher):
    """Starts processes whose policies have no weights."""

    def publish(self, weights: Mapping[str, Any], version: int) -> Any:
        return {}

    def withdraw(self, published: Any) -> None:
        assert published == {}


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


async def elsewhere(
    launcher: Launcher, make_env: Callable[[], Any], count: int, *, make: Any = Scripted(), engines: int = 2, **told: Any
) -> tuple[Collected, list[str]]:
    """Returns what several engines collect, and what was told of them."""
    lines: list[str] = []
    patience = told.pop("patience", HASTY)
    policy = ClusterPolicy(Engines(launcher, make, engines, patience, lines.append))
    try:
        await policy.load({}, 7)
        told = {"seed": 3, "step": 5} | told
        return await collect_elsewhere(make_env, starts(count), policy, ScriptedRenderer(), PLAN, **told), lines
    finally:
        await policy.close()
