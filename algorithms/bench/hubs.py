"""`arpo bench hubs`: microseconds that one step takes in each hub, beside the bare environment.

All play the same episodes of `ARPO/Search-v0` in turns. Measured is from an action to its observation, as the hub's own client
sees it: TRL and SkyRL-gym call a method; of verifiers, a model and what leads to it is left out; the Model Context Protocol's
client is in the process of its server, and OpenEnv's speaks to its server on loopback. "And back" is an id that comes back from
verifiers, whose whole loop runs. Hubs that are not installed are left out. OpenEnv cannot be installed beside the Model Context
Protocol.
"""

import asyncio
import importlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError
from arpo_envs.hubs import from_verifiers, trl

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent

BOUNDS = {"trl_over_bare": Bound("≤", 3.0), "skyrl_over_bare": Bound("≤", 3.0)}

_ID = "ARPO/Search-v0"
_ARGUMENTS: Mapping[str, Any] = {"cities_per_country": 2}
_QUERY = "Adamstown"
_ACTION = f"<search>{_QUERY}</search>"
_STEPS = 5
LABELS = {
    "bare": "the bare environment",
    "trl": "TRL",
    "skyrl": "SkyRL-gym",
    "verifiers": "verifiers, without the model",
    "back": "verifiers and back, its whole loop",
    "mcp": "Model Context Protocol, one process",
    "openenv": "OpenEnv, loopback",
}


@dataclass(frozen=True)
class HubsBench:
    """Compare what a step costs in each hub with what it costs in the bare environment."""

    rounds: int = 10
    """Rounds, in each of which all take their turns; medians count."""
    episodes: int = 20
    """Episodes per round."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("rounds", "episodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


Play = Callable[[int], float]
"""Plays so many episodes and returns the seconds that a step took in the median one: others use the machine, too."""


def measure(config: HubsBench, say: Say = silent) -> dict[str, Value]:
    """Returns microseconds per step, medians over rounds, and the median of the rounds' ratios, flat."""
    plays: dict[str, Play] = {}
    absent = []
    makers = {"bare": _bare, "trl": _trl, "skyrl": _skyrl, "verifiers": _verifiers, "back": _back}
    makers |= {"mcp": _mcp, "openenv": _openenv}
    for name, make in makers.items():
        try:
            plays[name] = make()
        except (ImportError, AttributeError, ConfigError):
            absent.append(name)
    rounds = []
    for number in range(config.rounds + 1):
        say(f"round {number} of {config.rounds} …")
        rounds.append({name: 1e6 * play(config.episodes) for name, play in plays.items()})
    rounds = rounds[1:]  # the first one warms up
    found: dict[str, Value] = {f"{name}_us": round(median(times[name] for times in rounds), 1) for name in plays}
    for name in LABELS:
        ratio = None if name in absent else round(median(times[name] / times["bare"] for times in rounds), 2)
        if name != "bare" and (ratio is not None or f"{name}_over_bare" in BOUNDS):
            found[f"{name}_over_bare"] = ratio
    return found | {"absent": ", ".join(absent)}


def _timed(reset: Callable[[], Any], step: Callable[[], Any]) -> Play:
    """Returns what plays an environment whose calls return what they have to say."""

    def play(episodes: int) -> float:
        spent = []
        for _ in range(episodes):
            reset()
            began = time.perf_counter()
            for _ in range(_STEPS):
                step()
            spent.append(time.perf_counter() - began)
        return median(spent) / _STEPS

    return play


def _bare() -> Play:
    env = gym.make(_ID, **_ARGUMENTS)
    return _timed(lambda: env.reset(seed=0), lambda: env.step(_ACTION))


def _trl() -> Play:
    env = trl.environment_factory(_ID, **_ARGUMENTS)()
    return _timed(lambda: env.reset(seed=0), lambda: env.search(query=_QUERY))


def _skyrl() -> Play:
    skyrl = importlib.import_module("arpo_envs.hubs.skyrl")
    env = skyrl.ArpoTextEnv(_ID, _ARGUMENTS, extras={"seed": 0})
    return _timed(lambda: env.init([]), lambda: env.step(_ACTION))


def _verifiers() -> Play:
    hub = importlib.import_module("arpo_envs.hubs.verifiers")
    task = SimpleNamespace(data=SimpleNamespace(env=_ID, arguments=_ARGUMENTS, seed=0))
    says = SimpleNamespace(terminated=False, last_reply=_ACTION)
    ends = SimpleNamespace(terminated=True, last_reply="")

    def play(episodes: int) -> float:
        moments: list[float] = []

        async def turn(message: str | None = None) -> Any:
            moments.append(time.perf_counter())
            return says if len(moments) % (_STEPS + 1) else ends

        @asynccontextmanager
        async def interaction(task: Any) -> Any:
            trace = SimpleNamespace(record_reward=lambda *_: None, record_metrics=lambda *_: None)
            yield SimpleNamespace(turn=turn, trace=trace)

        agents = SimpleNamespace(player=SimpleNamespace(interaction=interaction))
        for _ in range(episodes):
            asyncio.run(hub.ArpoEnv.run(None, task, agents))
        return median(moments[i + _STEPS] - moments[i] for i in range(0, len(moments), _STEPS + 1)) / _STEPS

    return play


def _back() -> Play:
    config = {"taskset": {"env": _ID, "arguments": _ARGUMENTS}}
    env = from_verifiers.make("arpo-envs-verifiers", config=config, tasks=1, fork="replay")
    timed = _timed(lambda: env.reset(seed=0), lambda: env.step(_ACTION))

    def play(episodes: int) -> float:
        try:
            return timed(episodes)
        finally:
            env.close()

    return play


async def _timed_async(episodes: int, begin: Callable[[], Awaitable[Callable[[], Awaitable[Any]]]]) -> float:
    spent = []
    for _ in range(episodes):
        step = await begin()
        began = time.perf_counter()
        for _ in range(_STEPS):
            await step()
        spent.append(time.perf_counter() - began)
    return median(spent) / _STEPS


def _mcp() -> Play:
    client_class = importlib.import_module("mcp").Client  # an AttributeError with version 1
    server = importlib.import_module("arpo_envs.hubs.mcp").make_server(_ID, **_ARGUMENTS)

    async def run(episodes: int) -> float:
        async with client_class(server) as client:

            async def begin() -> Callable[[], Awaitable[Any]]:
                begun = await client.call_tool("reset", {"seed": 0})
                arguments = {"session": begun.structured_content["session"], "query": _QUERY}
                return lambda: client.call_tool("search", arguments)

            return await _timed_async(episodes, begin)

    return lambda episodes: asyncio.run(run(episodes))


def _openenv() -> Play:
    hub = importlib.import_module("arpo_envs.hubs.openenv")
    uvicorn = importlib.import_module("uvicorn")
    action = hub.ArpoAction(text=_ACTION)

    async def run(episodes: int, host: str) -> float:
        async with hub.ArpoClient(base_url=f"ws://{host}") as client:

            async def begin() -> Callable[[], Awaitable[Any]]:
                await client.reset(seed=0)
                return lambda: client.step(action)

            return await _timed_async(episodes, begin)

    @contextmanager
    def served() -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = uvicorn.Server(uvicorn.Config(hub.make_app(_ID, **_ARGUMENTS), log_level="error"))
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            try:
                yield f"127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()

    def play(episodes: int) -> float:
        with served() as host:
            return asyncio.run(run(episodes, host))

    return play


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Microseconds per step, medians", title_justify="left", caption_justify="left")
    for heading in ("", "µs", "over the bare environment", "bound"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for name, label in LABELS.items():
        time_, ratio, bound = record.get(f"{name}_us"), record.get(f"{name}_over_bare"), BOUNDS.get(f"{name}_over_bare")
        if bound is not None and ratio is not None:
            shown.add_row(label, f"{time_:.1f}", *bound.cells(float(ratio), "×"))
        else:
            shown.add_row(label, *(["–", ""] if time_ is None else [f"{time_:.1f}", f"{ratio:.1f}×" if ratio else ""]), "")
    missing = f" Not installed: {record['absent']}." if record["absent"] else ""
    shown.caption = Text(f"A step is one search of {_ID}; beginning and end are not measured.{missing}")
    return shown


BENCHMARK = Benchmark(HubsBench, measure, table, BOUNDS, check=HubsBench(rounds=5))
