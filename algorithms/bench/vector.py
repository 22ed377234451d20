"""`arpo bench vector`: our vector environment beside Gymnasium's two, with tools of lognormal and of no duration.

Each row makes the same calls, whose times are known. Gymnasium's sync steps one row after another, its async one process
per row, but all wait for the slowest in every step; so does our `step`. With `send` and `recv` no row waits for another, and
the slowest row's own time is the least that any of them could take.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from rich.table import Table
from rich.text import Text

from arpo_envs import ArpoError, ConfigError
from arpo_envs.vector import ForkableVectorEnv

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent
from .latency import TURNS, Workload, waiting_env, workload

BOUNDS = {
    "step_over_sync": Bound("≤", 0.4),
    "step_over_async": Bound("≤", 1.1),
    "free_over_async": Bound("≤", 0.7),
    "free_over_slowest_row": Bound("≤", 1.25),
    "instant_step_over_async": Bound("≤", 0.8),
}
"""Measured were 0.28 to 0.31, 0.99 to 1.00, 0.45 to 0.46, 1.01 to 1.02, and 0.31 to 0.46."""

Vector = VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class VectorBench:
    """Compare the vector environment with Gymnasium's sync and async, under lognormal tool latencies."""

    rows: int = 16
    """Rows."""
    speed: float = 25.0
    """All durations are divided by this; tools take 1.25 s on average before that."""
    rounds: int = 5
    """Rounds, each with latencies of its own; their median counts."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.rows < 2 or self.rounds < 1 or not self.speed > 0:
            raise ConfigError(f"rows must be at least 2, rounds 1, and speed positive, got {self}.")


class DifferentWork(ArpoError):
    """The vector environments did not return the same rewards, so their times are not comparable."""


def measure(config: VectorBench, say: Say = silent) -> dict[str, Value]:
    """Returns seconds, medians over rounds, and ratios between those of one round, flat.

    "instant": the same calls with tools that take no time, so that only the vector environments' own work is left.
    """
    kinds: dict[str, Callable[[Workload], float]] = {
        "sync": partial(_timed, SyncVectorEnv, _step_by_step),
        "async": partial(_timed, partial(AsyncVectorEnv, shared_memory=False), _step_by_step),
        "step": partial(_timed, ForkableVectorEnv, _step_by_step),
        "free": partial(_timed, ForkableVectorEnv, _freely),
    }
    slow: list[dict[str, float]] = []
    instant: list[dict[str, float]] = []
    for seed in range(config.rounds):
        say(f"round {seed + 1} of {config.rounds} …")
        work = workload("lognormal", paths=config.rows, seed=seed, speed=config.speed)
        slowest = float(work.tool_PD.sum(axis=1).max())
        slow.append({name: timed(work) for name, timed in kinds.items()} | {"slowest_row": slowest})
        at_once = workload("constant", paths=config.rows, seed=seed, speed=float("inf"))
        instant.append({name: timed(at_once) for name, timed in kinds.items()})
    found = {f"{name}_s": median(times[name] for times in slow) for name in slow[0]}
    found |= {f"instant_{name}_s": median(times[name] for times in instant) for name in instant[0]}
    for ratio in BOUNDS:
        one, other = ratio.removeprefix("instant_").split("_over_")
        rounds = instant if ratio.startswith("instant_") else slow
        found[ratio] = median(times[one] / times[other] for times in rounds)
    return {name: round(value, 4) for name, value in found.items()}


def _timed(kind: Callable[..., Vector], play: Callable[[Any], Any], work: Workload) -> float:
    """Returns the seconds that an episode of every row takes, resets and construction left out."""
    rows = len(work.tool_PD)
    envs = kind([partial(waiting_env, work)] * rows, autoreset_mode=AutoresetMode.DISABLED)
    try:
        envs.reset(seed=0)
        began = time.perf_counter()
        rewards = play(envs)
        spent = time.perf_counter() - began
    finally:
        envs.close()
    if list(rewards) != [1.0] * rows:
        raise DifferentWork(f"Every row should have earned 1, but {envs} returned {list(rewards)}.")
    return spent


def _action(row: int, turn: int) -> str:
    return f"<wait>{row} {turn}</wait>" if turn < TURNS else "<answer>done</answer>"


def _step_by_step(envs: Vector) -> Any:
    for turn in range(TURNS + 1):
        _, rewards, *_ = envs.step([_action(row, turn) for row in range(envs.num_envs)])
    return rewards


def _freely(envs: ForkableVectorEnv) -> Any:
    """Sends each row on as soon as it is back."""
    earned, turns = np.zeros(envs.num_envs), np.zeros(envs.num_envs, np.int64)
    envs.send(range(envs.num_envs), [_action(row, 0) for row in range(envs.num_envs)])
    left = envs.num_envs
    while left:
        rows, (_, rewards, ended, *_) = envs.recv()
        earned[rows] += rewards
        turns[rows] += 1
        left -= int(ended.sum())
        if len(going := rows[~ended]):
            envs.send(going, [_action(row, turns[row]) for row in going])
    return earned


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="One episode of every row, medians", title_justify="left", caption_justify="left")
    for heading in ("", "lognormal tools, s", "instant tools, ms"):
        shown.add_column(heading, justify="left" if not heading else "right")
    labels = {
        "sync": "Gymnasium's sync",
        "async": "Gymnasium's async",
        "step": "ours, step",
        "free": "ours, send and recv",
        "slowest_row": "the slowest row alone",
    }
    for name, label in labels.items():
        instant = record.get(f"instant_{name}_s")
        shown.add_row(label, f"{record[f'{name}_s']:.3f}", "" if instant is None else f"{1e3 * float(instant):.1f}")
    shown.add_section()
    for name, bound in BOUNDS.items():
        shown.add_row(name, *bound.cells(float(record[name] or 0.0), "×"))
    shown.caption = Text(f"{TURNS} tool calls and an answer in every row; ratios are medians of those of single rounds.")
    return shown


BENCHMARK = Benchmark(VectorBench, measure, table, BOUNDS, check=VectorBench(rows=16, speed=100.0, rounds=2))
