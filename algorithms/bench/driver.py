"""`arpo bench driver`: what a step takes of the main process when the engines and the learner are elsewhere.

Paths are simulated: a script writes them, in engines that are processes of their own. The learner's model is real and lies on a
rank, which sends its weights to the engines. So the main process should hold the trees, and nothing that grows with the model.
"""

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..cli.results import Value
from ..cluster import ClusterPolicy, Engines, Equipment, Origin, RankedLearner, Ranks, collect_elsewhere, launcher_for, packed
from ..learner import LearnerConfig, ShardedLearner, merged_state, write_weights
from ..models.sharded_loading import skeleton
from ..recipes import make
from ..rendering.text import ScriptedRenderer
from ..rollout import Limits
from ..tree import RolloutTree
from .bounds import Bound
from .check import Benchmark, Say, silent
from .latency import Workload, timed_policy, waiting_env, workload
from .memory import most_held
from .weights import model_of

Size = Literal["1.4M", "135M"]
BOUNDS = {"driver_memory_growth": Bound("≤", 1.1)}
"""From the smallest model to the largest. A single copy of 135M parameters would more than double what the process holds."""
_STEPS = 3
"""The last one counts: the others import, start processes and fill caches."""


@dataclass(frozen=True)
class DriverBench:
    """Measure the main process of a run: its memory and CPU time per step, with models of two sizes."""

    sizes: tuple[Size, ...] = ("1.4M", "135M")
    """Models, by their parameters, the smallest first."""
    prompts: int = 128
    """Prompts of a step."""
    rollouts: int = 16
    """Paths of a prompt."""
    engines: int = 2
    """Processes that play the paths."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.prompts, self.engines) < 1 or self.rollouts < 2 or not self.sizes:
            raise ConfigError(f"There must be a size, a prompt, an engine and two rollouts at least, got {self}.")


@dataclass(frozen=True)
class _Played:
    """Makes an engine's equipment: a policy that follows the workload's script and ignores weights."""

    work: Workload

    def __call__(self) -> Equipment:
        return Equipment(timed_policy(self.work), ScriptedRenderer())


@dataclass(frozen=True)
class _OnRank:
    """Makes the learner of a rank."""

    device: str = "cpu"

    def __call__(self, policy: Path, mesh: Any) -> ShardedLearner:
        return ShardedLearner(skeleton(policy), LearnerConfig(), mesh=mesh, folder=policy)


def measure(config: DriverBench, say: Say = silent) -> dict[str, Value]:
    """Returns what the main process takes, flat, and how its memory grows with the model.

    `driver_megabytes_at_S`: the most that it has held, with a model of size S; `driver_seconds_at_S`: processor time of a step;
    `model_megabytes_at_S`. `tree_bytes`: of a tree on its way to the learner, with those of the whole step;
    `tree_bytes_alone`: on its way from an engine, which sends each when it is complete; `tree_tokens`: how long it is.
    """
    found: dict[str, Value] = {"paths": config.prompts * config.rollouts, "engines": config.engines}
    for size in config.sizes:
        say(f"{size}, {found['paths']:,} paths …")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # what was held before does not count
            found |= fresh.submit(_driven, size, config).result()
    first, last = (float(found[f"driver_megabytes_at_{size}"] or 0) for size in (config.sizes[0], config.sizes[-1]))
    return found | {"driver_memory_growth": round(last / first, 3)}


def _driven(size: str, config: DriverBench) -> dict[str, Value]:
    """Returns the measurements of one size, in the process that is measured."""
    with tempfile.TemporaryDirectory(prefix="arpo-bench-driver-") as home:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
            model_bytes = other.submit(_saved, size, Path(home) / "model").result()
        trees, seconds = asyncio.run(_steps(Path(home), config))
    return {
        f"model_megabytes_at_{size}": round(model_bytes / 1e6, 1),
        f"driver_megabytes_at_{size}": round(most_held() / 1e6, 1),
        f"driver_seconds_at_{size}": round(seconds, 3),
        "tree_bytes": round(len(packed(trees)) / len(trees)),
        "tree_bytes_alone": round(mean(len(packed([tree])) for tree in trees)),
        "tree_tokens": round(mean(sum(len(node.tokens) for node in tree.nodes) for tree in trees)),
    }


def _saved(size: str, folder: Path) -> int:
    """Saves a model that knows nothing; returns the bytes of its weights."""
    model = model_of(size)
    model.config.save_pretrained(folder)
    write_weights(folder, merged_state(model))
    return sum(parameter.nbytes for parameter in model.parameters())


async def _steps(home: Path, config: DriverBench) -> tuple[Sequence[RolloutTree], float]:
    """Returns the trees and the processor time of the last step."""
    work = workload("constant", paths=config.prompts, seed=1, speed=1e12)  # all that takes time is left out
    launcher, origin = partial(launcher_for, "local"), Origin(home / "model")
    policy = ClusterPolicy(Engines(launcher(home, count=config.engines + 1), _Played(work), config.engines))
    ranks = Ranks(launcher(home / "learners", count=config.engines + 1), _OnRank(), 1, home / "learners")
    learner = RankedLearner(ranks, origin, lambda: origin)
    algorithm, env = make("grpo", rollouts=config.rollouts), partial(waiting_env, work)
    limits, seconds = Limits(mode="free", answer_reserve=1), 0.0
    trees: Sequence[RolloutTree] = ()
    try:
        for step in range(_STEPS):
            began = time.process_time()
            await policy.load(learner.weights(), step)
            found = await collect_elsewhere(
                env, work.starts, policy, ScriptedRenderer(), algorithm, seed=1, step=step, limits=limits
            )
            packed(found.trees)  # as they are sent to the ranks
            trees, seconds = found.trees, time.process_time() - began
    finally:
        learner.close()
        await policy.close()
    return trees, seconds


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title=f"The main process, {record['paths']:,} paths a step", title_justify="left", caption_justify="left")
    for heading, justify in (("model", "left"), ("weights, MB", "right"), ("holds, MB", "right"), ("CPU, s a step", "right")):
        shown.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for size in ("1.4M", "135M"):
        if f"driver_megabytes_at_{size}" in record:
            numbers = [record[f"{name}_at_{size}"] for name in ("model_megabytes", "driver_megabytes", "driver_seconds")]
            shown.add_row(size, *[f"{number:,.1f}" for number in numbers])
    growth, bound = record["driver_memory_growth"], BOUNDS["driver_memory_growth"]
    shown.caption = Text(
        f"memory, largest over smallest model: {growth:.2f} (bound {bound}); a tree of {record['tree_tokens']:,} tokens takes "
        f"{record['tree_bytes_alone']:,} bytes alone, {record['tree_bytes']:,} beside others"
    )
    return shown


BENCHMARK = Benchmark(DriverBench, measure, table, BOUNDS, check=DriverBench(prompts=16))
