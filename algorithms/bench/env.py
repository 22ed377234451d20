"""`arpo bench env`: microseconds that the environment itself costs per call, and what a fork costs.

The tool does nothing and the questions are fixed, so that what is left is `ToolEnv`: parsing,
limits, transcript, info and reward. No search index is queried, except in the last three lines. The ratio
that has a bound is this time over that of the same episodes by hand, without an environment.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from rich.table import Table
from rich.text import Text

from arpo_envs import (
    Answer,
    Call,
    ConfigError,
    Outcome,
    Stateless,
    Task,
    ToolEnv,
    ToolResult,
    ToolSpec,
    clone,
    make_dialect,
    restore,
    snapshot,
)
from arpo_envs.rewards import HierarchicalReward

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent

GEM_MICROSECONDS = 37.0
"""GEM 0.1.0, question-answering environment with a trivial tool: no spaces, no checks, no snapshot."""

BOUNDS = {"per_call_over_by_hand": Bound("≤", 5.0), "clone_over_reset": Bound("≤", 2.5)}
"""Measured were 2.8 to 3.2, and 1.5."""

_CALL, _ANSWER = "<think>It should be known.</think><lookup>Bordeaux</lookup>", "<answer>France</answer>"
_CALLS = 2

Env = gym.Env[Any, Any]


@dataclass(frozen=True)
class EnvBench:
    """Measure the environment's own time."""

    rounds: int = 15
    """Rounds; their median counts."""
    episodes: int = 300
    """Episodes per round."""
    forks: int = 200
    """Clones, snapshots and restores per round."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("rounds", "episodes", "forks"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


class Lookup(Stateless):
    """A tool that costs nothing."""

    specs = (
        ToolSpec(
            "lookup",
            "Looks a name up.",
            {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        ),
    )

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Returns the same text every time."""
        return ToolResult("Bordeaux: city in France.")


class Fixed:
    """A few questions."""

    name = "fixed"
    tasks = tuple(Task(f"q{i}", f"In which country is Bordeaux? ({i})", ("France",)) for i in range(16))

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns one of them."""
        return self.tasks[int(rng.integers(len(self.tasks)))]

    def get(self, task_id: str) -> Task:
        """Returns the one of that id."""
        return self.tasks[int(task_id.removeprefix("q"))]


def trivial_env(**options: Any) -> ToolEnv:
    """Returns a `ToolEnv` whose tool and questions cost nothing; `options` are its own."""
    return ToolEnv(tasks=Fixed(), tools=[Lookup()], reward=HierarchicalReward(), **options)


def measure(config: EnvBench, say: Say = silent) -> dict[str, Value]:
    """Returns microseconds, medians over rounds, and ratios between them, flat.

    `per_call`: reset to answer divided by the calls made, including a reset with its own seed.
    """
    say("environment …")
    bare, made = trivial_env(), gym.make(EnvSpec("Bench/Trivial-v0", entry_point=trivial_env))
    found: dict[str, float] = {"reference_gem_per_call_us": GEM_MICROSECONDS}
    for name, env in (("unwrapped", bare), ("gym_make", made)):
        times = [_episodes(env, config.episodes) for _ in range(config.rounds + 1)][1:]  # the first one warms up
        reset, call, answer = (median(column) for column in zip(*times, strict=True))
        per_call = median((reset + _CALLS * call + answer) / (_CALLS + 2) for reset, call, answer in times)
        parts = {"per_call": per_call, "reset": reset, "tool_call": call, "answer": answer}
        found |= {f"{part}_{name}_us": value for part, value in parts.items()}
        found |= {f"{part}_{name}_us": value for part, value in _forks(env, _CALL, config).items()}
        env.close()
    by_hand = median([_by_hand(config.episodes) for _ in range(config.rounds + 1)][1:])
    found |= {
        "per_call_by_hand_us": by_hand,
        "per_call_over_by_hand": found["per_call_unwrapped_us"] / by_hand,
        "clone_over_reset": found["clone_unwrapped_us"] / found["reset_unwrapped_us"],
    }
    search = gym.make("ARPO/Search-v0")
    found |= {f"{part}_search_us": value for part, value in _forks(search, "<search>Bordeaux</search>", config).items()}
    search.close()
    return {name: round(value, 2) for name, value in found.items()}


def _episodes(env: Env, count: int) -> tuple[float, float, float]:
    """Plays episodes; returns microseconds per reset, tool call and answer."""
    clock = time.perf_counter
    resets = calls = answers = 0.0
    for seed in range(count):
        start = clock()
        env.reset(seed=seed)
        ready = clock()
        for _ in range(_CALLS):
            env.step(_CALL)
        called = clock()
        env.step(_ANSWER)
        answers += clock() - called
        calls += called - ready
        resets += ready - start
    return 1e6 * resets / count, 1e6 * calls / (count * _CALLS), 1e6 * answers / count


def _by_hand(count: int) -> float:
    """Does the least that an episode needs, without an environment around it; returns microseconds per call."""
    tasks, tool, reward = Fixed(), Lookup(), HierarchicalReward()
    dialect = make_dialect("tags", tool.specs)
    start = time.perf_counter()
    for seed in range(count):
        rng, _ = seeding.np_random(seed)
        task = tasks.draw(rng)
        for _ in range(_CALLS):
            call = dialect.parse(_CALL)
            assert isinstance(call, Call)
            dialect.result(tool.call(call.tool, call.arguments, timeout=1.0).text)
        answer = dialect.parse(_ANSWER)
        assert isinstance(answer, Answer)
        reward(task, Outcome(answer.text, True, frozenset({"lookup"})))
    return 1e6 * (time.perf_counter() - start) / (count * (_CALLS + 2))


def _forks(env: Env, action: str, config: EnvBench) -> dict[str, float]:
    """Returns microseconds of each kind of fork mid-episode, including closing what was made."""
    env.reset(seed=0)
    for _ in range(_CALLS):
        env.step(action)
    with snapshot(env) as parked:
        kinds: dict[str, Callable[[], Any]] = {
            "clone": lambda: clone(env).close(),
            "snapshot": lambda: snapshot(env).close(),
            "restore": lambda: restore(env, parked),
        }
        return {kind: median(_each(fork, config.forks) for _ in range(config.rounds)) for kind, fork in kinds.items()}


def _each(function: Callable[[], Any], count: int) -> float:
    """Returns microseconds per call."""
    start = time.perf_counter()
    for _ in range(count):
        function()
    return 1e6 * (time.perf_counter() - start) / count


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Microseconds per call, medians", title_justify="left", caption_justify="left")
    shown.add_column("")
    for heading in ("unwrapped", "gym.make", "ARPO/Search-v0"):
        shown.add_column(heading, justify="right")
    for part in ("per_call", "reset", "tool_call", "answer", "clone", "snapshot", "restore"):
        values = [record.get(f"{part}_{name}_us") for name in ("unwrapped", "gym_make", "search")]
        label = "per call, reset to answer" if part == "per_call" else part.replace("_", " ")
        style = "bold" if part == "per_call" else ""
        shown.add_row(Text(label, style), *("" if value is None else Text(f"{value:.1f}", style) for value in values))
        if part in ("per_call", "answer"):
            shown.add_section()
    shown.add_section()
    for name, bound in BOUNDS.items():
        if name in record:
            shown.add_row(name, *bound.cells(float(record[name] or 0.0)))
    shown.caption = Text(
        f"A trivial tool, {_CALLS} calls an episode, each reset seeded; forks mid-episode. For comparison: GEM 0.1.0 with "
        f"a trivial tool takes {GEM_MICROSECONDS:.0f} µs per call, without spaces, checks or snapshots. By hand: the same "
        "draws, parses, calls and scores without an environment around them."
    )
    return shown


BENCHMARK = Benchmark(EnvBench, measure, table, BOUNDS, check=EnvBench(rounds=5, episodes=100, forks=50))
