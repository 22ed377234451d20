"""`arpo bench plan`: what `arpo plan` says beforehand of real configurations, and what they then take.

Constants are fitted to the steps of some small configurations; the steps of others are predicted with them and measured. All
take turns within one process, so that whatever else the machine does disturbs them alike, and medians over steps count.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..cli.planned import layout_of
from ..cli.results import Value
from ..cluster.planning import Machine, Setting, Tools, Workload, fitted, predict, workload_of
from ..models.devices import device_name, find_device
from .bounds import Bound
from .check import Benchmark, Say, silent
from .machine import SMALL, Case, Running, micro_batch_tokens, taken

BOUNDS = {"plan_error": Bound("≤", 0.2)}
"""The largest error of a configuration's whole step."""

_TWO_ENGINES: Mapping[str, Any] = {"cluster": "local", "engines": 2}
CASES: Mapping[str, Case] = {
    "arpo, 24 prompts × 16": Case({}),
    "grpo, 24 prompts × 16": Case({"algorithm": "grpo"}),
    "arpo, 12 prompts × 32": Case({"prompts": 12, "rollouts": 32}),
    "random_branching, 16 prompts × 24": Case({"algorithm": "random_branching", "prompts": 16, "rollouts": 24}),
    "arpo, 12 prompts × 16, tools of 0.5 s": Case({"prompts": 12, "mode": "free"}, Tools(0.5, 0.5)),
    "arpo, 24 prompts × 16, two engines": Case(_TWO_ENGINES),
    "arpo, 12 prompts × 16, two engines, tools of 0.5 s": Case({"prompts": 12, **_TWO_ENGINES}, Tools(0.5, 0.5)),
}
"""Whose steps are predicted; none of them is among those that the constants are from."""


@dataclass(frozen=True)
class PlanBench:
    """Predict steps of real configurations, and take them."""

    steps: int = 4
    """Steps of each configuration that count; one more comes first, to warm up."""
    cases: tuple[str, ...] = tuple(CASES)
    """Configurations to predict."""
    threads: int = 1
    """Number of PyTorch CPU threads."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers and names."""
        if min(self.steps, self.threads) < 1:
            raise ConfigError("steps and threads must be at least 1.")
        for name in self.cases:
            if name not in CASES:
                raise ConfigError(f"There is no configuration {name!r}; there are: {'; '.join(CASES)}.")


def measure(config: PlanBench, say: Say = silent) -> dict[str, Value]:
    """Returns what was predicted and what was measured, flat.

    Seconds are those of the wall. Where tools take no time and all is done in this process, "cpu" has the same for CPU time,
    which other work on the machine disturbs less; there, "plan_error" is of that.
    """
    cases = {**SMALL, **{name: CASES[name] for name in config.cases}}
    runs = asyncio.run(taken(cases, config.steps, config.threads, say))
    found: dict[str, Value] = {"device": device_name(find_device("cpu")), "steps": config.steps, "threads": config.threads}
    small = [runs[name] for name in SMALL]
    size = micro_batch_tokens(small)
    by_wall = fitted([step for run in small for step in run.taken("wall")], micro_batch_tokens=size)
    by_cpu = fitted([step for run in small for step in run.taken("cpu")], micro_batch_tokens=size)
    seen = [tree for run in small for trees in run.trees for tree in trees]
    errors = []
    for name in config.cases:
        run = runs[name]
        workload = workload_of(seen, run.config.make_algorithm(), run.config.prompts)
        error = _compared(found, name, run, workload, by_wall, run.wall)
        if not run.case.tools.latency and not run.config.placement.is_elsewhere:
            error = _compared(found, f"{name}: cpu", run, workload, by_cpu, run.cpu)
        errors.append(abs(error))
    return found | {"plan_error": max(errors)}


def _compared(
    found: dict[str, Value],
    name: str,
    run: Running,
    workload: Workload,
    machine: Machine,
    seconds: Sequence[tuple[float, float]],
) -> float:
    """Notes what was predicted and measured of a configuration; returns the relative error of the whole step."""
    step = predict(Setting(machine, workload, layout_of(run.config), run.case.tools, steps=3))
    measured = [median(column) for column in zip(*seconds[1:], strict=True)]
    for part, predicted, took in zip(("rollout", "update"), (step.rollout, step.update), measured, strict=True):
        found |= {f"{name}: {part} predicted": round(predicted, 4), f"{name}: {part} measured": round(took, 4)}
    error: float = (step.rollout + step.update) / sum(measured) - 1.0
    found[f"{name}: error"] = round(error, 4)
    return error


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="A step: predicted and measured, in seconds", title_justify="left", caption_justify="left")
    shown.add_column("")
    for heading in ("rollouts", "measured", "update", "measured", "error"):
        shown.add_column(heading, justify="right")
    for key in record:
        if not key.endswith(": error"):
            continue
        name = key.removesuffix(": error")
        cells = [
            f"{record[f'{name}: {part} {what}']:.2f}" for part in ("rollout", "update") for what in ("predicted", "measured")
        ]
        error = float(record[key] or 0.0)
        style = "bold" if BOUNDS["plan_error"].met(abs(error)) else "red"
        shown.add_row(name.replace(": cpu", ", CPU time"), *cells, Text(f"{error:+.0%}", style))
    shown.caption = Text(f"Medians of {record['steps']} steps; constants from smaller configurations in the same process.")
    return shown


BENCHMARK = Benchmark(
    PlanBench,
    measure,
    table,
    BOUNDS,
    check=PlanBench(steps=2, cases=tuple(CASES)[:1]),
    check_bounds={"plan_error": Bound("≤", 0.4)},
)
