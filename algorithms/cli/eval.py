"""`arpo eval`: held-out success of a policy, with its confidence interval, and how the episodes ended."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..agreement import require_engine
from ..evaluation import Evaluation, evaluate
from ..models.devices import find_device
from ..models.loading import load_tokenizer
from ..policies import MODEL
from ..rollout import Limits, MakeEnv, Start
from .asked import asked, chosen
from .config import TrainConfig
from .docstrings import with_help
from .environments import env_maker
from .parts import dialect_of, renderer_for
from .policy_source import Source, measured_folder, source_of
from .results import Value, write_json
from .tools import Mode, ToolAnswers, require_answerable
from .transcript import transcript


@with_help
@dataclass(frozen=True)
class EvalConfig:
    """Measure a policy on held-out tasks."""

    policy: str
    """One of: the folder of a run; a folder or hub id of a Hugging Face causal language model; "smollm2"; the URL of a server;
    or a policy from another package, by name or as package.module:object."""
    policy_args: tuple[str, ...] = ()
    """Arguments of a policy from another package, each NAME=VALUE."""
    model_folder: str | None = None
    """With a URL: folder or hub id of the model it serves; only needed if the server's name for the model is neither a folder
    on this machine nor a hub id. With a policy from another package: the run or model it samples from."""
    env: str | None = None
    """Environment id, or a mixture ID=WEIGHT,ID=WEIGHT (default: the run's own, or ARPO/SearchMini-v0)."""
    args: tuple[str, ...] = ()
    """Environment arguments, each NAME=VALUE, or ID:NAME=VALUE for one environment of a mixture (default: the run's evaluation
    arguments, or split=test)."""
    benchmark: str | None = None
    """Benchmark to ask, e.g. gsm8k, in the environment it is made for unless --env names one; docs/benchmarks.md lists them."""
    data: Path | None = None
    """File with a copy of the benchmark: JSON Lines, a JSON list or CSV (default: it is loaded from the Hugging Face hub)."""
    skip_malformed: bool = False
    """Leave out rows of the benchmark that are malformed or need an attachment, rather than stop before the start."""
    questions: int | None = None
    """How many questions to ask; they are the same for every policy (default: 300, or all of the benchmark)."""
    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""
    samples: int = 1
    """Rollouts per question."""
    seed: int = 1
    """Seed for sampling."""
    engine: Literal["local", "vllm"] = "local"
    """Engine that samples the actions. local: the package's own. vllm: vLLM, in a process of its own. A server behind a URL
    does its own sampling."""
    engine_args: tuple[str, ...] = ()
    """Arguments of vLLM, each NAME=VALUE, e.g. dtype=bfloat16."""
    action_tokens: int | None = None
    """Maximum tokens per action (default: the run's, or that of `arpo train`)."""
    context_length: int | None = None
    """Maximum tokens per episode (default: the run's, or that of `arpo train`)."""
    tools: Mode = "live"
    """Who answers calls of tools that declare themselves pure, such as search. live: the tools. record: each call is made once
    and kept in --recording. replay: --recording alone; no such call is made."""
    recording: Path | None = None
    """File to record into, which must not exist yet, or to replay."""
    device: str = "cpu"
    """Device of the policy: cpu, cuda, or cuda:N for one of several."""
    show: int = 0
    """Number of transcripts to print."""
    json: Path | None = None
    """File to write the result to, as one flat JSON object."""

    def __post_init__(self) -> None:
        """Refuses bad values before the work starts."""
        for name in ("questions", "samples", "action_tokens", "context_length"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        chosen(self)
        _ = self.source  # this finds options that contradict each other
        if (self.tools == "live") != (self.recording is None):
            raise ConfigError(
                "--tools and --recording belong together: give both, e.g. --tools record --recording tools.sqlite."
            )
        if self.tools == "record" and self.recording is not None and self.recording.exists():
            raise ConfigError(
                f"A recording belongs to one evaluation, and {self.recording} exists. Name another file, or remove it."
            )
        if self.temperature < 0:
            raise ConfigError(f"temperature must not be negative, got {self.temperature}.")
        if self.temperature == 0 and self.samples > 1:
            raise ConfigError(f"Greedy samples are all the same: leave out --samples {self.samples} with --temperature 0.")

    @property
    def source(self) -> Source:
        """What samples the actions, and the run or model that is measured.

        Raises:
            ConfigError: the options for it contradict each other.
        """
        return source_of(self, usual=None)

    def resolved(self) -> "tuple[Path, str, tuple[str, ...]]":
        """Returns the folder of the model, the environment's id and its arguments.

        Raises:
            ConfigError: there is no model folder.
        """
        source = self.source
        home, env, arguments = Path(source.model), self.env, self.args
        benchmark = chosen(self)
        if benchmark is not None:
            return measured_folder(source), env or benchmark.env, arguments
        if env is None and (home / "policy").is_dir() and (home / "config.json").is_file():
            run = TrainConfig.load(home)
            env, arguments = run.env, arguments or (*run.env_args, *run.eval_args)
        folder = measured_folder(source)
        return folder, env or "ARPO/SearchMini-v0", arguments or ("split=test",)


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo eval`."""
    config = tyro.cli(EvalConfig, args=list(arguments), prog="arpo eval", description="Measure a policy on held-out tasks.")
    folder, env, words = config.resolved()
    find_device(config.device)
    questions = asked(config, env, words)
    made = env_maker(env, dict(questions.options))  # finds mistakes before the model is loaded
    if config.tools != "live":
        require_answerable(made, Limits())
    console = Console(highlight=False)
    for reason in questions.malformed:
        console.print(Text(f"Left out: {reason}", style="yellow"))
    began = time.perf_counter()
    with (
        console.status(f"{len(questions.starts)} questions of {env} …"),
        ToolAnswers.of(config.tools, config.recording) as tools,
    ):
        result = asyncio.run(measure(config, folder, questions.starts, made, tools))
    record = {**summary(config, env, words, result, time.perf_counter() - began), **questions.record}
    _transcripts(console, result, config.show)
    console.print(table(record))
    if config.samples > 1:
        console.print(Text("Samples of one question are not independent: the interval is narrower than it should be.", "dim"))
    if told := tools.told():
        console.print(Text(told, style="dim"))
    if config.json is not None:
        write_json(config.json, record)
        console.print(Text(f"Written to {config.json}", style="dim"))
    return 0


async def measure(config: EvalConfig, folder: Path, starts: Sequence[Start], made: MakeEnv, tools: ToolAnswers) -> Evaluation:
    """Answers the questions in the environments `made` makes, with the parts that training would use."""
    sizes = _sizes(config, folder)
    make_env, tokenizer = tools.before(made, "evaluation"), load_tokenizer(folder)
    policy = config.source.make(
        folder=folder,
        tokenizer=tokenizer,
        context_length=sizes.context_length or 4096,
        device=config.device,
        training=False,
    )
    renderer = renderer_for(folder, tokenizer, dialect_of(make_env), evaluating=True)
    try:
        if (model := MODEL.of(policy)) is not None:
            await require_engine(policy, model)
        return await evaluate(
            make_env,
            starts,
            policy,
            renderer,
            seed=config.seed,
            limits=sizes.limits or Limits(),
            temperature=config.temperature,
            samples=config.samples,
        )
    finally:
        await policy.close()


def _sizes(config: EvalConfig, folder: Path) -> TrainConfig:
    """Returns the lengths to evaluate with: those asked for, those of the run, or what `arpo train` would choose."""
    home = Path(config.source.model)
    is_run = folder == home / "policy" and (home / "config.json").is_file()
    run = TrainConfig.load(home) if is_run else TrainConfig()
    action_tokens = config.action_tokens or (run.limits.action_tokens if run.limits is not None else None)
    limits = Limits(action_tokens=action_tokens) if action_tokens is not None else None
    context_length = config.context_length or run.context_length
    return TrainConfig(policy=str(folder), output=folder, limits=limits, context_length=context_length).resolved()


def _transcripts(console: Console, result: Evaluation, count: int) -> None:
    ends = [(tree, leaf) for tree in result.trees for leaf in tree.leaves()]
    for tree, leaf in ends[:count]:
        console.print(transcript(tree, leaf, tree.task))


def summary(config: EvalConfig, env: str, words: Sequence[str], result: Evaluation, seconds: float) -> dict[str, Value]:
    """Returns the result as a flat record."""
    low, high = result.interval
    ends = Counter(str(tree.nodes[leaf].status) for tree in result.trees for leaf in tree.leaves())
    per_question = config.samples
    return {
        "policy": str(config.policy),
        "env": env,
        "args": " ".join(words),
        "questions": len(result.trees),
        "samples": config.samples,
        "temperature": config.temperature,
        "seed": config.seed,
        "success": result.success,
        "success_low": low,
        "success_high": high,
        "reward": result.metrics["reward"],
        **_measures(result),
        "tool_calls_per_rollout": result.metrics["executed_tool_calls_per_prompt"] / per_question,
        "sampled_tokens_per_rollout": result.metrics["sampled_tokens"] / (len(result.trees) * per_question),
        **{name: value for env, own in result.by_env.items() for name, value in _of_member(env, own).items()},
        **{f"ended_{status}": count for status, count in sorted(ends.items())},
        "seconds": round(seconds, 1),
    }


def _measures(result: Evaluation) -> dict[str, Value]:
    """Returns what the environment measured, each mean with its interval, flat."""
    found: dict[str, Value] = {}
    for name, (low, high) in result.intervals.items():
        found |= {name: result.metrics[name], f"{name}_low": low, f"{name}_high": high}
    return found


def _of_member(env: str, result: Evaluation) -> dict[str, Value]:
    """Returns what a mixture's record says of one of its environments."""
    low, high = result.interval
    return {
        f"questions/{env}": len(result.trees),
        f"success/{env}": result.success,
        f"success_low/{env}": low,
        f"success_high/{env}": high,
        f"reward/{env}": result.metrics["reward"],
    }


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a result."""
    title = f"{record['policy']} on {record['env']} {record['args']}"
    drawn = "greedy" if record["temperature"] == 0 else f"temperature {record['temperature']:g}"
    shown = Table(title=Text(title), title_justify="left", show_header=False, caption_justify="left")
    shown.caption = Text(f"{record['questions']} questions × {record['samples']}, {drawn}, seed {record['seed']}")
    shown.add_column(style="dim")
    shown.add_column()
    shown.add_row("success", f"[bold]{record['success']:.3f}[/]   {_interval(record, 'success')}")
    for env in [name.removeprefix("success/") for name in record if name.startswith("success/")]:
        asked = f"{record[f'questions/{env}']} questions"
        shown.add_row(f"  {env}", f"{record[f'success/{env}']:.3f}   {_interval(record, 'success', f'/{env}')}   {asked}")
    shown.add_row("mean reward", f"{record['reward']:.3f}")
    for name in record:
        if f"{name}_low" in record and name != "success":
            shown.add_row(Text(name.removeprefix("env/").replace("_", " ")), f"{record[name]:.3f}   {_interval(record, name)}")
    shown.add_row("tool calls per rollout", f"{record['tool_calls_per_rollout']:.2f}")
    shown.add_row("sampled tokens per rollout", f"{record['sampled_tokens_per_rollout']:.1f}")
    shown.add_section()
    for name, count in record.items():
        if name.startswith("ended_"):
            shown.add_row(name.removeprefix("ended_").replace("_", " "), str(count))
    shown.add_section()
    shown.add_row("time", f"{record['seconds']:.1f} s")
    return shown


def _interval(record: Mapping[str, Value], name: str, of: str = "") -> str:
    return f"95% interval {record[f'{name}_low{of}']:.3f} – {record[f'{name}_high{of}']:.3f}"
