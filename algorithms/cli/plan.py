"""`arpo plan`: what a run will cost, from a simulation of its steps on engines and learners that need not exist yet."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from arpo_envs import ConfigError

from ..cluster.planning import Deaths, Layout, Machine, Setting, Tools, Workload, gains, losses, made_up, predict_each, splits
from .docstrings import with_help
from .outputs import require_file
from .plan_shown import Planned, flat, print_comparisons, print_plan
from .planned import Comparison, Finished, compared, machine_of_runs
from .progress import saying
from .results import write_json

_TURNS, _ACTION, _RESULT, _PROMPT, _FORK = 3.0, 120.0, 400.0, 400, 0.5
_MOST_TREES = 1000
"""Trees of the step in which engines die; more say little more and take minutes."""


@with_help
@dataclass(frozen=True)
class PlanConfig:
    """Say what a run will cost."""

    run: tuple[Path, ...] = ()
    """Folders of finished runs. Their trees say how long paths are, and the first one's configuration is what is planned.
    Without --machine, the times of their steps say how fast this machine is; several runs that differ in size and algorithm
    give a better estimate."""
    machine: Path | None = None
    """File with the constants of a machine, as arpo bench machine --json FILE writes it (default: fitted to --run)."""
    against: tuple[Path, ...] = ()
    """Folders of finished runs. The times of their steps are predicted from --run and --machine, and compared with those
    measured; nothing else is printed."""
    steps: int | None = None
    """Steps of the run (default: those of the first --run, or 100)."""
    prompts: int | None = None
    """Prompts per step (default: those of the first --run, or 24)."""
    rollouts: int | None = None
    """Rollouts per prompt (M) (default: those of the first --run, or 16)."""
    roots: int | None = None
    """How many of these start from the prompt (N) (default: the first run's share of M, or half of M)."""
    fork: float | None = None
    """Probability of a fork after a tool result (default: as often as in --run, or 0.5)."""
    turns: float | None = None
    """Mean number of tool calls of a path; for a plan without --run, like the three options that follow (default: 3)."""
    action_tokens: float | None = None
    """Mean tokens of an action (default: 120)."""
    result_tokens: float | None = None
    """Mean tokens of a tool result (default: 400)."""
    prompt_tokens: int | None = None
    """Tokens of a prompt (default: 400)."""
    tool_latency: float = 0.0
    """Median seconds that a tool takes to answer, in addition to the processor time that its calls took in --run."""
    tool_spread: float = 0.5
    """Standard deviation of the logarithm of these seconds."""
    engines: int | None = None
    """Engines that sample (default: those of the first --run, or 1)."""
    learners: int | None = None
    """Learners that share an update (default: those of the first --run, or 1)."""
    engine_devices: int = 1
    """Devices of one engine."""
    learner_devices: int = 1
    """Devices of one learner."""
    apart: bool = False
    """Engines and learners have devices of their own, as in a --run with --cluster (default: they take turns on the same)."""
    ahead: Literal[0, 1] | None = None
    """1: collect a step's rollouts while the learner updates on the previous step's, which needs --apart (default: as in the
    first --run, or 0)."""
    mode: Literal["deterministic", "free"] | None = None
    """Whether paths wait for each other (default: as in the first --run, or free)."""
    threads: int | None = None
    """Maximum tool calls of an engine at the same time (default: those of the first --run, or 64)."""
    devices: int | None = None
    """Also search for the best way to use this many devices."""
    dead_per_hour: float = 0.01
    """Share of workers that die per hour; the plan says what that costs with --death-engines engines."""
    death_engines: int = 1000
    """Number of engines with which the cost of dying workers is simulated; 0 leaves this out."""
    restart_seconds: float = 120.0
    """Seconds until a worker that died is back."""
    simulate: int = 3
    """Steps to simulate; their spread is shown."""
    seed: int = 1
    """Seed of what is drawn."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Refuses options that cannot be combined."""
        if not self.run and self.machine is None:
            raise ConfigError(
                "A plan needs to know how fast things are: give --run RUN, or --machine FILE with the constants that "
                "`arpo bench machine --json FILE` measures."
            )
        for name in ("steps", "prompts", "rollouts", "roots", "threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.death_engines < 0:
            raise ConfigError(f"death_engines must not be negative, got {self.death_engines}.")
        lengths = ("turns", "action_tokens", "result_tokens", "prompt_tokens")
        if given := [name for name in lengths if self.run and getattr(self, name) is not None]:
            raise ConfigError(
                f"--{given[0].replace('_', '-')} would have no effect: with --run, its trees say how long paths are."
            )


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo plan`."""
    config = tyro.cli(PlanConfig, args=list(arguments), prog="arpo plan", description="Say what a run will cost, and why.")
    require_file(config.json, "--json")
    console = Console(highlight=False)
    runs = [Finished.of(folder) for folder in config.run]
    with saying(Console(stderr=True, highlight=False), "reading runs …" if runs else "simulating …") as say:
        machine, about = _machine(config, runs)
        found: list[Comparison] = []
        for folder in config.against:
            say(f"predicting {folder.name}, {len(found) + 1} of {len(config.against)}")
            found.append(_compared(config, machine, runs, Finished.of(folder)))
        planned = None if config.against else _planned(config, machine, about, runs, say)
    if planned is None:
        print_comparisons(console, found)
        record: dict[str, Any] = {f"{one.name}: {name}": value for one in found for name, value in _numbers(one).items()}
    else:
        print_plan(console, planned)
        record = flat(planned)
    if config.json is not None:
        write_json(config.json, record)
    return 0


def _machine(config: PlanConfig, runs: Sequence[Finished]) -> tuple[Machine, str]:
    """Returns the constants, and where they are from."""
    if config.machine is None:
        return machine_of_runs(runs), f"constants fitted to the steps of {', '.join(run.folder.name for run in runs)}"
    try:
        record = json.loads(config.machine.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{config.machine} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{config.machine} is not JSON: {error}.") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{config.machine} must hold an object with the constants of a machine by name.")
    about = f"constants of {record.get('device', 'a machine')} from {config.machine}"
    if assumed := record.get("assumed"):
        about += f"; assumed, not measured: {assumed}"
    return Machine.of(record), about


def _compared(config: PlanConfig, machine: Machine, runs: Sequence[Finished], run: Finished) -> Comparison:
    tools = Tools(config.tool_latency, config.tool_spread)
    return compared(run, machine, runs, tools, seed=config.seed, steps=config.simulate)


def _numbers(one: Comparison) -> dict[str, float]:
    return {
        "rollout predicted": one.rollout[0],
        "rollout measured": one.rollout[1],
        "update predicted": one.update[0],
        "update measured": one.update[1],
        "error": one.error,
    }


def _planned(config: PlanConfig, machine: Machine, about: str, runs: Sequence[Finished], say: Callable[[str], None]) -> Planned:
    first = runs[0] if runs else None
    setting = Setting(
        machine,
        _workload(config, runs),
        _layout(config, first),
        Tools(config.tool_latency, config.tool_spread),
        config.seed,
        config.simulate,
    )
    deaths = Deaths(config.dead_per_hour, restart_seconds=config.restart_seconds)
    trees = max(1, min(_MOST_TREES, setting.workload.prompts * config.death_engines // setting.layout.engines))
    say(f"simulating {config.simulate} steps")
    steps = predict_each(setting)
    say("simulating what would help")
    found = gains(setting)
    if config.devices is not None:
        say(f"simulating ways to use {config.devices} devices")
    ways = splits(setting, config.devices) if config.devices is not None else []
    if config.death_engines:
        say(f"simulating {trees:,} trees on {config.death_engines:,} engines of which some die")
    return Planned(
        about=about,
        setting=setting,
        run_steps=config.steps or (first.config.steps if first is not None else 100),
        steps=steps,
        gains=found,
        devices=config.devices,
        splits=ways,
        deaths=deaths,
        losses=losses(replace(setting, steps=1), deaths, engines=config.death_engines, trees=trees)
        if config.death_engines
        else None,
    )


def _workload(config: PlanConfig, runs: Sequence[Finished]) -> Workload:
    """Returns what a step has to do."""
    if runs:
        base = runs[0].workload(runs)
    else:
        base = Workload(
            made_up(
                turns=_TURNS if config.turns is None else config.turns,
                action=config.action_tokens or _ACTION,
                result=config.result_tokens or _RESULT,
                prompt=config.prompt_tokens or _PROMPT,
                seed=config.seed,
            ),
            rollouts=16,
            roots=8,
            fork=_FORK,
            probe=20,
        )
    rollouts = config.rollouts or base.rollouts
    return replace(
        base,
        prompts=config.prompts or base.prompts,
        rollouts=rollouts,
        roots=config.roots or max(1, rollouts * base.roots // base.rollouts),
        fork=base.fork if config.fork is None else config.fork,
    )


def _layout(config: PlanConfig, first: Finished | None) -> Layout:
    """Returns how many engines and learners there are."""
    usual = first.layout if first is not None else Layout(shared=True)
    return replace(
        usual if config.engines is None else usual.with_engines(config.engines),
        learners=usual.learners if config.learners is None else config.learners,
        engine_devices=config.engine_devices,
        learner_devices=config.learner_devices,
        shared=usual.shared and not config.apart,
        ahead=usual.ahead if config.ahead is None else config.ahead,
        mode=config.mode or usual.mode,
        threads=config.threads or usual.threads,
    )
