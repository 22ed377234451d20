"""`arpo bench ahead`: how long steps take that are collected while the learner updates, beside steps that wait for it.

Every duration is known: tools take lognormal times, and an update takes as long as told, as that of a learner on a device of
its own does. So it is known, too, how long the steps would take if nothing else cost time.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..advantages import Scores
from ..cli.results import Value
from ..cluster import Ahead
from ..learner import copied
from ..recipes import make
from ..rendering.text import ScriptedRenderer
from ..rollout import Limits, Start
from ..trainer import Trainer
from .bounds import Bound
from .check import Benchmark, Say, silent
from .engines import DifferentWork
from .latency import Workload, timed_policy, waiting_env, workload

ROLLOUTS = 2
BOUNDS = {"ahead_over_waiting": Bound("≤", 0.8)}
"""Without any overhead it would be 0.56 to 0.65, depending on the number of steps; without any overlap, 1."""


@dataclass(frozen=True)
class AheadBench:
    """Compare steps that are collected ahead with steps that wait for the learner, under lognormal tool latencies."""

    steps: int = 8
    """Steps of a run; the first one cannot be collected ahead."""
    prompts: int = 8
    """Prompts of a step, each with two rollouts."""
    update: float = 1.0
    """How long an update takes, relative to the slowest path of an average step."""
    speed: float = 20.0
    """All durations are divided by this; tools take 1.25 s on average before that."""
    rounds: int = 3
    """Rounds, each with latencies of its own; their median counts."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.prompts, self.rounds) < 1 or self.steps < 2:
            raise ConfigError(f"prompts and rounds must be at least 1, and steps 2, got {self}.")
        if not (self.speed > 0.0 and self.update > 0.0):
            raise ConfigError(f"speed and update must be above 0, got {self}.")


@dataclass(frozen=True)
class _Busy:
    """A learner that learns nothing, and takes its time for it."""

    seconds: float

    def score(self, trees: Any, needs: frozenset[str]) -> Scores:
        return Scores()

    def update(self, *batch: Any) -> Mapping[str, float]:
        time.sleep(self.seconds)
        return {}

    def weights(self) -> Mapping[str, Any]:
        return {}

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


def measure(config: AheadBench, say: Say = silent) -> dict[str, Value]:
    """Returns seconds of a step, and ratios within one round, flat; all are medians over rounds.

    Raises:
        DifferentWork: the two did not play the same episodes.
    """
    copied({})  # what it imports is not a step's time
    rounds: list[dict[str, float]] = []
    for seed in range(config.rounds):
        say(f"round {seed + 1} of {config.rounds} …")
        work = workload("lognormal", paths=config.steps * config.prompts, seed=seed, speed=config.speed)
        paths = [_part(work, step, config.prompts).critical_path for step in range(config.steps)]
        update = config.update * sum(paths) / config.steps
        waiting, one = _timed(config, work, update, None)
        ahead, other = _timed(config, work, update, Ahead(config.steps))
        if one != other:
            raise DifferentWork("Steps that were collected ahead did not play the episodes of those that waited.")
        ideal = paths[0] + sum(max(path, update) for path in paths[1:]) + update
        rounds.append({"waiting": waiting, "ahead": ahead, "ideal": ideal, "update": update * config.steps})
    found: dict[str, Value] = {f"{name}_s": median(one[name] for one in rounds) / config.steps for name in rounds[0]}
    for above, below in (("ahead", "waiting"), ("ahead", "ideal")):
        found[f"{above}_over_{below}"] = median(one[above] / one[below] for one in rounds)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def _part(work: Workload, step: int, prompts: int) -> Workload:
    """Returns the paths of one step."""
    own = slice(step * prompts, (step + 1) * prompts)
    return Workload(work.turns_P[own], work.generation_PD[own], work.tool_PD[own])


def _timed(config: AheadBench, work: Workload, update: float, ahead: Ahead[Any] | None) -> tuple[float, list[list[int]]]:
    """Returns the seconds that all steps take, and the tokens of all paths."""

    def starts(step: int, refill: int) -> list[Start]:
        return work.starts[step * config.prompts : (step + 1) * config.prompts]

    trainer = Trainer(
        make_env=lambda: waiting_env(work),
        starts=starts,
        policy=timed_policy(work),
        renderer=ScriptedRenderer(),
        algorithm=make("grpo", rollouts=ROLLOUTS),
        learner=_Busy(update),
        seed=1,
        limits=Limits(mode="free", answer_reserve=1),
        ahead=ahead,
    )

    async def run() -> tuple[float, list[list[int]]]:
        began = time.perf_counter()
        results = [await trainer.step(step) for step in range(config.steps)]
        taken = time.perf_counter() - began
        await trainer.close()
        return taken, [tree.tokens(leaf) for result in results for tree in result.trees for leaf in tree.leaves()]

    return asyncio.run(run())


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="One step, medians", title_justify="left", caption_justify="left")
    for heading, justify in (("", "left"), ("measured", "right"), ("bound", "right")):
        shown.add_column(heading, justify=justify)  # type: ignore[arg-type]
    labels = {
        "update": "of that, the update, s",
        "waiting": "collected with the newest weights, s",
        "ahead": "collected ahead, s",
        "ideal": "collected ahead, if nothing else took time, s",
    }
    for name in ("waiting", "update", "ahead", "ideal"):
        shown.add_row(labels[name], f"{record[f'{name}_s']:.3f}", "")
    shown.add_section()
    for name, bound in BOUNDS.items():
        shown.add_row(name, *bound.cells(float(record[name] or 0.0), "×"))
    shown.add_row("ahead_over_ideal", f"{record['ahead_over_ideal']:.2f}×", "")
    shown.caption = Text(
        "Ratios are medians of those of single rounds. The update stands for a learner on a device of its own."
    )
    return shown


BENCHMARK = Benchmark(AheadBench, measure, table, BOUNDS, check=AheadBench(steps=6, speed=50.0, rounds=1))
