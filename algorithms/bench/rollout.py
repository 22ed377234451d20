"""`arpo bench rollout`: what our scheduler and engines cost, beside the alternatives, all as ratios within one run."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..cli.results import Value, write_json
from ..limits import Limits
from ..policies import Sampling
from ..rendering import ScriptedRenderer
from ..rollout import collect
from ..tree import RolloutTree
from .bounds import Bound
from .engines import DifferentWork, Independent, Shape, local_over_generate, prefill_over_unique, vllm_over_generate
from .latency import Kind, Workload, timed_policy, waiting_env, workload
from .lockstep import collect_lockstep

KINDS: tuple[Kind, ...] = ("constant", "lognormal", "hangs")
SEEDS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class RolloutBench:
    """Measure schedulers and engines."""

    paths: int = 64
    """Paths at the same time."""
    speed: float = 20.0
    """All waiting is divided by this: generation of 0.5 to 2 s, tools of 1 s and more."""
    rounds: int = 3
    """Rounds for each engine; their median counts."""
    width: int = 128
    """Of the transformer that the local engine runs; 128 is the embedded policy's."""
    layers: int = 2
    """Of that transformer."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Finds bad numbers."""
        if min(self.paths, self.rounds, self.layers) < 1 or self.speed <= 0 or self.width < 32:
            raise ConfigError("paths, rounds and layers must be at least 1, width at least 32, and speed above 0.")


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo bench rollout`."""
    config = tyro.cli(
        RolloutBench, args=list(arguments), prog="arpo bench rollout", description="Measure schedulers and engines."
    )
    console = Console(highlight=False)
    with console.status("measuring …") as status:
        record = measure(config, status.update)
    console.print(table(record))
    if config.json is not None:
        write_json(config.json, record)
    return 0


def measure(config: RolloutBench, say: Callable[[str], None] = lambda text: None) -> dict[str, Value]:
    """Returns all ratios, flat; a ratio over several seeds or rounds is their median.

    Of the scheduler's CPU time a seed's least counts, because whatever else the machine does only adds to it.

    Raises:
        DifferentWork: the two schedulers did not play the same episodes.
    """
    found: dict[str, Value] = {}
    critical = []
    for kind in KINDS:
        pairs = []
        for seed in SEEDS:
            say(f"tools: {kind}, seed {seed} …")
            work = workload(kind, paths=config.paths, seed=seed, speed=config.speed)
            ours, theirs = _ours(work), _lockstep(work)
            pairs.append((theirs / ours, work.lockstep / work.critical_path))
            critical.append(ours / work.critical_path)
        found[f"lockstep_over_ours_{kind}"] = median(pair[0] for pair in pairs)
        found[f"lockstep_over_ours_{kind}_least"] = min(pair[0] for pair in pairs)
        found[f"lockstep_over_critical_path_{kind}"] = median(pair[1] for pair in pairs)
    found |= {"ours_over_critical_path": median(critical), "ours_over_critical_path_most": max(critical)}
    say("scheduler …")
    own, whole = zip(*(min(_scheduler(config.paths, seed) for _ in range(config.rounds)) for seed in SEEDS), strict=True)
    found |= {"scheduler_cpu_us_per_turn": median(own), "rollout_cpu_us_per_turn": median(whole)}
    say("local engine …")
    shape = Shape(paths=config.paths)
    ratios = asyncio.run(local_over_generate(shape, rounds=config.rounds, width=config.width, layers=config.layers))
    found["local_tokens_over_generate"] = median(ratios)
    say("vLLM …")
    others = asyncio.run(vllm_over_generate(shape, rounds=config.rounds, width=config.width, layers=config.layers))
    if others is not None:
        found["vllm_tokens_over_generate"] = median(others)
    found |= asyncio.run(prefill_over_unique(shape, seed=1))
    found |= {"paths": config.paths, "speed": config.speed, "width": config.width, "layers": config.layers}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def _ours(work: Workload) -> float:
    """Returns the seconds that `collect` takes in free mode."""
    began = time.perf_counter()
    trees = _collect(work)
    taken = time.perf_counter() - began
    if [tree.tool_calls().executed for tree in trees] != work.turns_P.tolist():
        raise DifferentWork("Our scheduler did not make the calls of the workload.")
    return taken


def _collect(work: Workload) -> list[RolloutTree]:
    limits = Limits(mode="free", answer_reserve=1)
    return asyncio.run(
        collect(
            lambda: waiting_env(work), work.starts, timed_policy(work), ScriptedRenderer(), Independent(), seed=1, limits=limits
        )
    )


def _lockstep(work: Workload) -> float:
    """Returns the seconds that the scheduler with barriers takes."""
    began = time.perf_counter()
    paths = asyncio.run(
        collect_lockstep(lambda: waiting_env(work), work.starts, timed_policy(work), ScriptedRenderer(), seed=1)
    )
    taken = time.perf_counter() - began
    if [bytes(path).count(b"</result>") for path in paths] != work.turns_P.tolist():
        raise DifferentWork("The scheduler with barriers did not make the calls of the workload.")
    return taken


def _scheduler(paths: int, seed: int) -> tuple[float, float]:
    """Returns microseconds of CPU per turn when nothing takes time: of the scheduler alone, and of everything.

    The scheduler's is what `collect` takes beyond the same episodes played one after another in a loop.
    """
    work = workload("constant", paths=paths, seed=seed, speed=float("inf"))
    turns = int(work.turns_P.sum()) + paths
    began = time.process_time()
    _collect(work)
    between = time.process_time()
    asyncio.run(_one_by_one(work))
    ended = time.process_time()
    whole, bare = (between - began) * 1e6 / turns, (ended - between) * 1e6 / turns
    return whole - bare, whole


async def _one_by_one(work: Workload) -> None:
    """Plays all episodes without a scheduler."""
    policy, renderer = timed_policy(work), ScriptedRenderer()
    for start in work.starts:
        env = waiting_env(work)
        text, _ = env.reset(seed=start.seed, options=dict(start.options or {}))
        context, ended = list(renderer.start(env.instructions, text, env.tool_specs)), False
        while not ended:
            action = await policy.generate(context, Sampling(512), seed=1)
            observation, _, terminated, truncated, _ = env.step(renderer.action(renderer.text(action.tokens)))
            ended = terminated or truncated
            context += (*action.tokens, *renderer.observation(observation, 1 << 16).tokens)
        env.close()


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Rollouts: ratios within one run", title_justify="left", caption_justify="left")
    for heading, justify in (("", "left"), ("measured", "right"), ("bound", "right")):
        shown.add_column(heading, justify=justify)  # type: ignore[arg-type]

    def row(label: str, name: str, bound: Bound | None = None) -> None:
        if name in record:
            value = float(record[name] or 0.0)
            shown.add_row(label, *(bound.cells(value) if bound is not None else (f"{value:,.2f}", "")))

    for kind, bound in (("constant", Bound("≥", 1.0)), ("lognormal", Bound("≥", 2.0)), ("hangs", None)):
        row(f"lock-step over ours, {kind} tools", f"lockstep_over_ours_{kind}", bound)
        row("  the same without any overhead", f"lockstep_over_critical_path_{kind}")
    row("ours over the critical path", "ours_over_critical_path", Bound("≤", 1.15))
    shown.add_section()
    row("scheduler, µs of CPU per turn", "scheduler_cpu_us_per_turn", Bound("≤", 200.0))
    row("  with environment and script", "rollout_cpu_us_per_turn")
    shown.add_section()
    row("local engine over bare generate, tokens/s", "local_tokens_over_generate", Bound("≥", 0.9))
    row("vLLM over its own bare generation, tokens/s", "vllm_tokens_over_generate")
    row("tokens computed over different tokens, ARPO", "prefill_over_unique")
    shown.caption = Text(
        f"{record['paths']} paths of 1 to 10 calls; generation U(0.5, 2) s, tools of 1 s / lognormal, mean 1.25 s / "
        f"1 s and 5% of 30 s, all divided by {record['speed']:g}; medians of {len(SEEDS)} seeds."
    )
    return shown
