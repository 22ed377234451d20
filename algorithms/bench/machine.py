"""`arpo bench machine`: how long the parts of a step take here, from steps of small configurations.

What is written with `--json` is what `arpo plan --machine` reads.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import gymnasium as gym
import torch
from rich.table import Table

from arpo_envs import ConfigError
from wrappers import UnreliableTools

from ..cli.config import TrainConfig
from ..cli.elsewhere import engines_for
from ..cli.parts import Parts, assemble, starting_policy
from ..cli.results import Value
from ..cli.words import parse_arguments
from ..cluster.planning import Machine, Taken, Tools, fitted, shape_of, unexplained
from ..models.devices import device_name, find_device
from ..models.embedded.cold_start import silent as quiet
from ..rollout import Limits, MakeEnv
from ..tree import RolloutTree
from .bounds import Bound
from .check import Benchmark, Say, silent

BOUNDS = {"fit_error": Bound("≤", 0.25)}
"""The median, over the steps that constants are fitted to, of what they leave unexplained of a step's seconds."""


@dataclass(frozen=True)
class Case:
    """A configuration of `arpo train`, as options of it.

    Args:
        options: of `TrainConfig`; the rest are its defaults.
        tools: how long its tools are made to take.
    """

    options: Mapping[str, Any]
    tools: Tools = Tools()

    def having(self, more: Mapping[str, Any]) -> "Case":
        """Returns the same with further options.

        Raises:
            ConfigError: one of them is what makes it this configuration.
        """
        if twice := sorted(self.options.keys() & more.keys()):
            raise ConfigError(f"{twice[0]} differs between the configurations that are measured, and cannot be given.")
        return replace(self, options={**self.options, **more})


SMALL: Mapping[str, Case] = {
    "arpo, 4 prompts": Case({"prompts": 4}),
    "arpo, 16 prompts × 8": Case({"prompts": 16, "rollouts": 8}),
    "grpo, 4 prompts × 8": Case({"algorithm": "grpo", "prompts": 4, "rollouts": 8}),
    "grpo, 12 prompts": Case({"algorithm": "grpo", "prompts": 12}),
}
"""Whose steps the constants are fitted to."""


@dataclass(frozen=True)
class MachineBench:
    """Measure the constants of `arpo plan`."""

    steps: int = 4
    """Steps of each configuration that count; one more comes first, to warm up."""
    train: tuple[str, ...] = ()
    """Further settings of `arpo train` for all of them, each NAME=VALUE, such as policy=FOLDER or engine=vllm."""
    device: str = "cpu"
    """Device of policy and learner: cpu or cuda."""
    threads: int = 1
    """Number of PyTorch CPU threads."""
    json: Path | None = None
    """File for the result as one flat object, which `arpo plan --machine FILE` reads."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.steps, self.threads) < 1:
            raise ConfigError("steps and threads must be at least 1.")


@dataclass
class Running:
    """A configuration whose steps are taken one by one.

    Args:
        case: what it is.
        config: the same, resolved.
        parts: of the run.
        make_env: its environment, with tools that take as long as they should.
    """

    case: Case
    config: TrainConfig
    parts: Parts
    make_env: MakeEnv
    trees: list[list[RolloutTree]] = field(default_factory=list)
    wall: list[tuple[float, float]] = field(default_factory=list)
    cpu: list[tuple[float, float]] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        """The limits of its rollouts."""
        return self.config.limits or Limits()

    async def step(self) -> None:
        """Takes a step as the trainer does, and keeps the seconds of its two parts."""
        number, parts, algorithm = len(self.trees), self.parts, self.config.make_algorithm()
        starts = parts.trainer.starts(number, 0)
        before = _now()
        found = await parts.trainer.collect(
            self.make_env,
            starts,
            parts.policy,
            parts.renderer,
            algorithm,
            seed=self.config.seed,
            step=number,
            limits=self.limits,
        )
        between = _now()
        scores = parts.learner.score(found.trees, algorithm.needs)
        credit = algorithm.credit(found.trees, scores)
        parts.learner.update(found.trees, credit, scores, algorithm.loss, algorithm.aggregation)
        after = _now()
        await parts.policy.load(parts.learner.weights(), number + 1)
        self.loads.append(time.perf_counter() - after[0])
        self.trees.append(found.trees)
        for clock, kept in enumerate((self.wall, self.cpu)):
            kept.append((between[clock] - before[clock], after[clock] - between[clock]))

    def taken(self, clock: Literal["wall", "cpu"]) -> list[Taken]:
        """Returns the steps that count: all but the first, which warms up."""
        probe = self.config.make_algorithm().branching.probe
        seconds = self.wall if clock == "wall" else self.cpu
        return [
            Taken(tuple(shape_of(tree, probe=probe) for tree in trees), rollout, update, self.limits.mode)
            for trees, (rollout, update) in list(zip(self.trees, seconds, strict=True))[1:]
        ]


def _now() -> tuple[float, float]:
    """Returns seconds on the wall, and of CPU time."""
    return time.perf_counter(), time.process_time()


async def taken(cases: Mapping[str, Case], steps: int, threads: int, say: Say) -> dict[str, Running]:
    """Returns configurations after so many steps and one more to warm up, taken in turns, with their policies closed."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    runs: dict[str, Running] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="arpo-bench-") as folder:
            async with AsyncExitStack() as opened:
                for number, (name, case) in enumerate(cases.items()):
                    runs[name] = await running(case.having({"threads": threads}), Path(folder) / str(number), opened)
                for number in range(steps + 1):
                    for name, run in runs.items():
                        say(f"step {number} of {steps}: {name} …")
                        await run.step()
    finally:
        torch.set_num_threads(before)
    return runs


async def running(case: Case, folder: Path, opened: AsyncExitStack) -> Running:
    """Returns a configuration that is ready to take its first step, in a folder for its policy; `opened` closes it."""
    config = replace(TrainConfig.of(case.options).resolved(), output=folder)
    parts = await assemble(config, starting_policy(config, folder, quiet), engines=engines_for)
    opened.push_async_callback(parts.close)
    await parts.policy.load(parts.learner.weights(), 0)
    make_env = parts.trainer.make_env
    return Running(case, config, parts, partial(_slow, make_env, case.tools) if case.tools.latency else make_env)


def _slow(make_env: MakeEnv, tools: Tools) -> gym.Env[str, str]:
    """Returns an environment whose tools take as long as they should."""
    return UnreliableTools(make_env(), latency=tools.latency, spread=tools.spread)


def measure(config: MachineBench, say: Say = silent) -> dict[str, Value]:
    """Returns the constants of this machine, flat, and what they are of.

    Raises:
        ConfigError: there is no such device, or a setting that the configurations have already.
    """
    device = find_device(config.device)
    given = {"device": config.device, **parse_arguments(config.train)}
    runs = asyncio.run(taken({name: case.having(given) for name, case in SMALL.items()}, config.steps, config.threads, say))
    steps = [step for run in runs.values() for step in run.taken("wall")]
    machine = fitted(steps, micro_batch_tokens=micro_batch_tokens(runs.values()))
    load = median(seconds for run in runs.values() for seconds in run.loads[1:])
    found: dict[str, Value] = {"device": device_name(device), "torch": torch.__version__, "threads": config.threads}
    model = given.get("policy", "embedded")
    found |= {"model": str(model), "measured": "all", "fit_error": median(unexplained(step, machine) for step in steps)}
    return found | asdict(replace(machine, load_seconds=load))


def micro_batch_tokens(runs: Iterable[Running]) -> int:
    """Returns how large a micro-batch of configurations is; it is the same for all of them."""
    (found,) = {run.parts.learner.config.micro_batch_tokens for run in runs}
    return found


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of the constants."""
    shown = Table(title=f"Constants of {record['device']}, {record['model']}", title_justify="left")
    shown.add_column("")
    shown.add_column("milliseconds", justify="right")
    for field_ in fields(Machine):
        if field_.name.endswith("_seconds") and record[field_.name] is not None:
            shown.add_row(
                field_.name.removesuffix("_seconds").replace("_", " "), f"{1000 * float(record[field_.name] or 0.0):.4f}"
            )
    return shown


BENCHMARK = Benchmark(
    MachineBench, measure, table, BOUNDS, check=MachineBench(steps=1), check_bounds={"fit_error": Bound("≤", 0.4)}
)
