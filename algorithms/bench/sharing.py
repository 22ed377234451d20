"""`arpo bench sharing`: tool calls that a tree saves, from one frozen policy, for ARPO and its controls.

The tools count their own calls. If they ran more or fewer than the trees record, a fork executed
something twice, and the benchmark fails. Without a policy a script plays: how much trees share
depends on where they fork; only their success depends on what the policy knows.
"""

import asyncio
from collections import Counter as Histogram
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from arpo_envs import ArpoError, ConfigError

from ..algorithm import Algorithm
from ..cli.config import TrainConfig
from ..cli.environments import env_maker
from ..cli.mixtures import env_arguments
from ..cli.parts import dialect_of, renderer_for, training_starts
from ..cli.policy_source import model_in
from ..cli.results import Value
from ..metrics import fork_depths, summarise
from ..models.devices import device_name, find_device
from ..models.loading import load_policy
from ..policies import Policy
from ..policies.local import LocalPolicy
from ..policies.scripted import ScriptedPolicy
from ..recipes import make
from ..rendering.renderer import Renderer
from ..rendering.text import ScriptedRenderer
from ..rollout import Limits, MakeEnv, Start, collect
from ..tree import RolloutTree, total_tool_calls
from .bounds import Bound
from .check import Benchmark, Say, silent
from .counting import Counter, counted

ALGORITHMS = ("arpo", "random_branching", "grpo")
BOUNDS = {"arpo_executed_share": Bound("≤", 0.8), "calls_over_trees": Bound("≤", 1.0)}
"""The share of calls on all paths that ARPO executed; and the tools' own count over the trees'."""


class ReExecuted(ArpoError):
    """The tools' own count differs from the trees': a call ran twice, or was lost."""


@dataclass(frozen=True)
class SharingBench:
    """Measure how many tool calls a tree saves."""

    policy: Path | None = None
    """Folder of a run, or of a Hugging Face causal language model (default: a script that searches one to four
    times)."""
    env: str = "ARPO/SearchMini-v0"
    """Environment id."""
    args: tuple[str, ...] = ("split=train",)
    """Environment arguments, each NAME=VALUE."""
    prompts: int = 32
    """Prompts."""
    rollouts: int = 16
    """Rollouts per prompt (M)."""
    roots: int = 8
    """How many of these rollouts start from the prompt (N), if the algorithm branches."""
    siblings: int = 1
    """Paths that one fork adds (Z)."""
    probe: int | None = None
    """How many tokens (k) after a tool result decide by their entropy whether to fork there (default: 4 for the embedded policy
    and the script, otherwise 20)."""
    seed: int = 1
    """Seed of the prompts and of all draws."""
    device: str = "cpu"
    """cpu or cuda."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers before the work starts."""
        if self.prompts < 1:
            raise ConfigError(f"prompts must be at least 1, got {self.prompts}.")

    def algorithm(self, name: str, probe: int | None) -> Algorithm:
        """Returns one of the algorithms, with the options it knows."""
        options: dict[str, int] = {"rollouts": self.rollouts}
        if name != "grpo":
            options |= {"roots": self.roots, "siblings": self.siblings}
        if name == "arpo":
            options["probe"] = probe or 20
        return make(name, **options)


def measure(config: SharingBench, say: Say = silent) -> dict[str, Value]:
    """Grows the trees of every algorithm from the same weights; returns the flat record.

    Raises:
        ReExecuted: the tools ran a different number of calls than the trees record.
        ConfigError: there is no such policy, environment or device.
    """
    find_device(config.device)
    make_env = env_maker(config.env, env_arguments(config.env, config.args))
    players = _script() if config.policy is None else _model(config, model_in(config.policy), dialect_of(make_env))
    return asyncio.run(_measure(config, make_env, players, say))


@dataclass(frozen=True)
class _Players:
    """What plays: a policy with its renderer, and settings that suit its size."""

    policy: Policy
    renderer: Renderer
    limits: Limits
    probe: int


def _model(config: SharingBench, folder: Path, dialect: str) -> _Players:
    sizes = TrainConfig(policy=str(folder), output=folder).resolved()
    model, tokenizer = load_policy(folder)
    policy = LocalPolicy(model, tokenizer, device=config.device, context_length=sizes.context_length or 4096)
    return _Players(policy, renderer_for(folder, tokenizer, dialect), sizes.limits or Limits(), sizes.probe or 20)


def _script() -> _Players:
    """Returns a player that searches one to four times, uncertain after every result, and then answers."""

    def script(before: str, seed: int) -> str:
        done = before.count("</result>")
        return f"<search>{seed % 1000}</search>" if done <= seed % 4 and done < 4 else "<answer>unknown</answer>"

    def entropy(before: str, seed: int) -> Sequence[float]:
        return [seed % 7 / 2] * 8

    return _Players(ScriptedPolicy(script, entropy), ScriptedRenderer(), Limits(), 4)


async def _measure(config: SharingBench, make_env: MakeEnv, players: _Players, say: Say) -> dict[str, Value]:
    record: dict[str, Value] = {
        "policy": str(config.policy or "a script"),
        "env": config.env,
        "args": " ".join(config.args),
        "device": device_name(find_device(config.device)),
        **{name: getattr(config, name) for name in ("prompts", "rollouts", "roots", "siblings", "seed")},
    }
    starts = training_starts(TrainConfig(seed=config.seed, prompts=config.prompts), 0)
    counted_calls = executed = 0
    try:
        for name in ALGORITHMS:
            say(f"{config.prompts} prompts of {config.env}, {name} …")
            algorithm, counter = config.algorithm(name, config.probe or players.probe), Counter()
            trees = await _grown(config, algorithm, make_env, players, starts, counter)
            require_once(name, counter.calls, trees)
            record |= {f"{name}_{key}": value for key, value in describe(trees).items()}
            counted_calls, executed = counted_calls + counter.calls, executed + total_tool_calls(trees).executed
    finally:
        await players.policy.close()
    return record | {"calls_over_trees": counted_calls / executed if executed else None}


async def _grown(
    config: SharingBench,
    algorithm: Algorithm,
    make_env: MakeEnv,
    players: _Players,
    starts: Sequence[Start],
    counter: Counter,
) -> list[RolloutTree]:
    return await collect(
        lambda: counted(make_env(), counter),
        starts,
        players.policy,
        players.renderer,
        algorithm,
        seed=config.seed,
        limits=players.limits,
    )


def require_once(name: str, calls: int, trees: Sequence[RolloutTree]) -> None:
    """Compares the tools' own count with the trees'.

    Raises:
        ReExecuted: they differ.
    """
    executed = total_tool_calls(trees).executed
    if calls != executed:
        raise ReExecuted(
            f"{name}: the tools ran {calls} calls, the trees record {executed}. A fork must never execute a call again; "
            "only a path that failed (see failed_leaves) may have run a call without a result."
        )


def describe(trees: Sequence[RolloutTree]) -> dict[str, Value]:
    """Returns what one algorithm's trees shared, flat."""
    metrics, calls = summarise(trees), total_tool_calls(trees)
    depths = Histogram(fork_depths(trees))
    on_paths = calls.executed + calls.inherited
    return {
        "executed_tool_calls": calls.executed,
        "inherited_tool_calls": calls.inherited,
        "executed_share": round(calls.executed / on_paths, 4) if on_paths else None,
        "forks_per_prompt": round(metrics["forks_per_prompt"], 3),
        **{f"forks_at_depth_{depth}": count for depth, count in sorted(depths.items())},
        "backfills_per_prompt": round(metrics["backfills_per_prompt"], 3),
        "leaves_per_prompt": sum(len(tree.leaves()) for tree in trees) / max(1, len(trees)),
        "failed_leaves": int(metrics["failed_leaves"]),
        "success": round(metrics["success"], 4),
    }


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement, one column per algorithm."""
    title = (
        f"Tool calls of {record['prompts']} prompts, M = {record['rollouts']}, N = {record['roots']}, Z = {record['siblings']}"
    )
    shown = Table(title=title, title_justify="left", caption_justify="left")
    shown.add_column("")
    for name in ALGORITHMS:
        shown.add_column(name, justify="right")
    rows = {
        "executed": "executed_tool_calls",
        "inherited": "inherited_tool_calls",
        "share executed": "executed_share",
        "forks per prompt": "forks_per_prompt",
        "back-fills per prompt": "backfills_per_prompt",
        "leaves per prompt": "leaves_per_prompt",
        "success": "success",
    }
    for label, key in rows.items():
        style = "bold" if key == "executed_share" else ""
        shown.add_row(Text(label, style), *(_cell(record, f"{name}_{key}", style) for name in ALGORITHMS))
    shown.add_section()
    prefix = "forks_at_depth_"
    depths = sorted({int(key.rpartition("_")[2]) for key in record if prefix in key})
    most = max((int(record.get(f"{name}_{prefix}{depth}") or 0) for name in ALGORITHMS for depth in depths), default=1)
    for depth in depths:
        counts = [int(record.get(f"{name}_{prefix}{depth}") or 0) for name in ALGORITHMS]
        bars = [Text.assemble(("▇" * round(10 * count / most), "cyan"), f" {count:>4}") for count in counts]
        shown.add_row(f"forks after {depth} tool call{'s' * (depth != 1)}", *bars)
    shown.caption = Text(
        f"{record['policy']} on {record['env']} {record['args']}, seed {record['seed']}. "
        f"Share executed: executed / (executed + inherited), for arpo {BOUNDS['arpo_executed_share']}. "
        "The tools' own count agrees with the trees: no call was executed twice."
    )
    return shown


def _cell(record: Mapping[str, Value], name: str, style: str) -> Text:
    value, bound = record[name], BOUNDS.get(name)
    return Text(_number(value), style if bound is None or value is None or bound.met(float(value)) else "bold red")


def _number(value: Value) -> str:
    return "–" if value is None else f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


BENCHMARK = Benchmark(SharingBench, measure, table, BOUNDS, check=SharingBench(prompts=8))
