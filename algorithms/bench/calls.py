"""`arpo bench calls`: microseconds that a search costs here, in GEM and in SkyRL-gym, without what the search itself takes.

All three get the same passages at once, at the place where each asks for them: here the index, there the HTTP client, since
these two know nothing else; what a server would need is left out. Measured are the steps of an episode that search: parsing
the action, calling the tool, and writing what the model sees. GEM's `ToolEnvWrapper` does not ask the environment inside for
any of them, so that one is empty.
"""

import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from rich.table import Table
from rich.text import Text

from arpo_envs import ArpoError, ConfigError, ToolEnv
from arpo_envs.hubs.gem import own_logging
from arpo_envs.rewards import HierarchicalReward
from arpo_envs.tasks.world import Document
from arpo_envs.tools.search import SearchTool

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent
from .env import Fixed

BOUNDS = {"call_over_best": Bound("≤", 0.6)}
"""Of the quicker of the two others."""

_SENTENCE = (
    "The town grew beside a navigable river, where families of merchants built several mills of stone between 1690 and 1712. "
)
_PASSAGES = tuple(Document(f"Town {number}", f"Town {number}: {_SENTENCE * 5}".strip()) for number in range(3))
"""Of a hundred words each, as in the corpus of Search-R1."""
_ACTION = "<think>The question is about a mill, so I look for the town it is in.</think><search>mill of four families</search>"
_URL = "http://127.0.0.1:8000/retrieve"

Step = Callable[[str], Any]
Begin = Callable[[], Step]
"""Begins an episode, and returns what takes its steps."""


@dataclass(frozen=True)
class CallsBench:
    """Compare what a search call costs here, in GEM and in SkyRL-gym, with a retriever that takes no time."""

    rounds: int = 20
    """Rounds, in each of which all take their turns; medians count."""
    episodes: int = 200
    """Episodes per round."""
    searches: int = 6
    """Searches per episode; by default as many as our environments allow."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("rounds", "episodes", "searches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


class DifferentWork(ArpoError):
    """A library did not show the model all passages, so its time is not comparable."""


def measure(config: CallsBench, say: Say = silent) -> dict[str, Value]:
    """Returns microseconds per search, medians over rounds, and the median of the rounds' ratios, flat."""
    begins, absent = _libraries(config.searches)
    for name, begin in begins.items():
        _require_passages(name, begin()(_ACTION))
    rounds = []
    for number in range(config.rounds + 1):
        say(f"round {number} of {config.rounds} …")
        rounds.append({name: _microseconds(begin, config) for name, begin in begins.items()})
    rounds = rounds[1:]  # the first one warms up
    found: dict[str, Value] = {f"{name}_us": round(median(times[name] for times in rounds), 2) for name in begins}
    others = [name for name in ("gem", "skyrl") if name in begins]
    for name in others:
        found[f"call_over_{name}"] = round(median(times["ours"] / times[name] for times in rounds), 3)
    best = median(times["ours"] / min(times[name] for name in others) for times in rounds) if not absent else None
    return found | {"call_over_best": best and round(best, 3), "searches": config.searches, "absent": ", ".join(absent)}


def _libraries(searches: int) -> tuple[dict[str, Begin], list[str]]:
    """Returns what begins an episode of each library, and the packages that are not installed."""
    made = gym.make(EnvSpec("Bench/Calls-v0", entry_point=lambda **_: _ours(searches)))
    begins = {"ours": _restarted(_ours(searches)), "gym_make": _restarted(made)}
    absent = []
    for name, package, begin in (("gem", "gem-llm", _gem), ("skyrl", "skyrl-gym", _skyrl)):
        try:
            with own_logging():
                begins[name] = begin(searches)
        except ModuleNotFoundError:
            absent.append(package)
    return begins, absent


def _restarted(env: Any) -> Begin:
    def begin() -> Step:
        env.reset()
        step: Step = env.step
        return step

    return begin


class _Passages:
    """A corpus, and an index that finds all of it at once."""

    name = "passages"

    def documents(self) -> tuple[Document, ...]:
        """Returns the passages."""
        return _PASSAGES

    def search(self, query: str, count: int) -> tuple[Document, ...]:
        """Returns the passages."""
        return _PASSAGES


def _ours(searches: int) -> ToolEnv:
    tool = SearchTool(_Passages(), engine="sqlite")
    tool.index = _Passages()  # type: ignore[assignment]  # of an index, the tool only uses `search`
    return ToolEnv(
        tasks=Fixed(), tools=[tool], reward=HierarchicalReward(), max_turns=searches + 2, max_tool_calls=searches + 1
    )


def _answer() -> dict[str, Any]:
    """Returns what a server of Search-R1's protocol would."""
    found = [{"document": {"contents": f'"{one.title}"\n{one.text}'}, "score": 1.0} for one in _PASSAGES]
    return {"result": [found]}


def _gem(searches: int) -> Begin:
    core, tool = importlib.import_module("gem.core"), importlib.import_module("gem.tools.search_tool")
    wrapper = importlib.import_module("gem.tools.tool_env_wrapper").ToolEnvWrapper
    packed = importlib.import_module("msgspec").msgpack.encode({"result": _answer()["result"][0]})
    tool.requests = _Client(packed)  # type: ignore[attr-defined]
    methods = {"reset": lambda env, seed=None: ("Which town?", {}), "step": lambda env, action: ("", 0.0, True, False, {})}
    empty = type("Empty", (core.Env,), methods)()
    return _restarted(wrapper(empty, [tool.SearchTool(search_url=_URL)], max_tool_uses=searches + 1))


def _skyrl(searches: int) -> Begin:
    module = importlib.import_module("skyrl_gym.envs.search.env")
    config = module.SearchEnvConfig(search_url=_URL)
    extras = {"reward_spec": {"ground_truth": {"target": ["Town 1"]}}, "max_turns": searches + 2}
    client = _Client(json.dumps(_answer()).encode())

    def begin() -> Step:
        env = module.SearchEnv(config, extras)
        env.tool_group.session = client
        step: Step = env.step
        return step

    return begin


class _Client:
    """Stands for `requests`, or a session of it: every request is answered at once, and alike."""

    status_code = 200

    def __init__(self, content: bytes) -> None:
        self.content = content

    def post(self, url: str, **request: Any) -> "_Client":
        """Returns the answer."""
        return self

    def raise_for_status(self) -> None:
        """Does nothing: it is a good one."""

    def json(self) -> Any:
        """Returns what is in it."""
        return json.loads(self.content)


def _require_passages(name: str, seen: Any) -> None:
    shown = str(seen)
    if not all(shown.count(_SENTENCE.strip()) >= 5 * len(_PASSAGES) and one.title in shown for one in _PASSAGES):
        raise DifferentWork(f"{name} should have shown all passages, and showed: {shown[:200]}")


def _microseconds(begin: Begin, config: CallsBench) -> float:
    """Returns microseconds per search; beginning an episode does not count."""
    spent, clock = 0.0, time.perf_counter
    for _ in range(config.episodes):
        step = begin()
        began = clock()
        for _ in range(config.searches):
            step(_ACTION)
        spent += clock() - began
    return 1e6 * spent / (config.episodes * config.searches)


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Microseconds per search, medians", title_justify="left", caption_justify="left")
    for heading in ("", "µs", "ours over it", "bound"):
        shown.add_column(heading, justify="left" if not heading else "right")
    labels = {"ours": "ours", "gym_make": "ours, in gym.make", "gem": "GEM", "skyrl": "SkyRL-gym"}
    for name, label in labels.items():
        time_, ratio = record.get(f"{name}_us"), record.get(f"call_over_{name}")
        cells = ["–" if time_ is None else f"{time_:.1f}", "" if ratio is None else f"{ratio:.2f}×"]
        shown.add_row(label, *cells, "")
    shown.add_section()
    best = record["call_over_best"]
    cells_of = BOUNDS["call_over_best"].cells
    shown.add_row("the quicker of these", "", *(cells_of(float(best), "×") if best is not None else ("–", "")))
    missing = f" Not installed: {record['absent']}." if record["absent"] else ""
    shown.caption = Text(
        f"{record['searches']} searches an episode, answered at once with three passages of a hundred words; beginning "
        f"and end are not measured, nor is any request.{missing}"
    )
    return shown


BENCHMARK = Benchmark(CallsBench, measure, table, BOUNDS, check=CallsBench(rounds=10))
