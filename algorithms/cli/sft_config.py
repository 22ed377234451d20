"""The options of `arpo sft`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from arpo_envs import ConfigError

from ..durable import write_text
from ..learner import LearnerConfig, LoRA, Schedule
from .flat import Option, changed, nested, options_of, read, unknown
from .groups import Group
from .policy_source import Source, source_of
from .prompting import Prompting

FILE = "sft.json"
"""Where a run keeps its configuration."""
_LEARNER = LearnerConfig(learning_rate=1e-4, weight_decay=0.01, micro_batch_tokens=4096, schedule=Schedule(warmup=10))


@dataclass(frozen=True)
class SftConfig:
    """Train a policy on demonstrations."""

    policy: str | None = None
    """The model to train: a folder of a Hugging Face causal language model or of a run, a hub id, or "smollm2"."""
    data: Path | None = None
    """Demonstrations: a file of JSON Lines, each {"messages": [...]} with the roles system, user, assistant and tool."""
    dialect: Literal["tags", "json"] = "tags"
    """With --data: how calls are written in it. "tool_calls" are written in this way, too."""
    skip_malformed: bool = False
    """With --data: leave malformed rows out. Otherwise they are listed, and nothing is trained."""
    run: Path | None = None
    """Demonstrations: the rollouts of this run that earned enough. The model must have the tokenizer of the run's policy."""
    min_reward: float = 1.0
    """With --run: the least reward of a rollout."""
    env: str | None = None
    """Demonstrations: episodes of this environment's scripted expert. As for `arpo train`."""
    env_args: tuple[str, ...] = ()
    """Environment arguments, each NAME=VALUE, e.g. hops=1."""
    train_args: tuple[str, ...] = ("split=train",)
    """Further environment arguments."""
    prompt: str = "ours"
    """With --env: what the policy is told before its question, as for `arpo train`; train it with the same."""
    examples: int = 0
    """With --env: worked examples that it is shown, too, as for `arpo train`."""
    episodes: int = 400
    """With --env: how many episodes the expert plays."""
    held_out: float = 0.1
    """Share of the questions whose demonstrations are not learned, but tell how well the others are learned."""
    steps: int = 100
    """Optimizer steps."""
    batch: int = 8
    """Demonstrations per step."""
    learner: LearnerConfig = _LEARNER
    """How to optimise."""
    context_length: int = 1024
    """Maximum tokens of a demonstration; longer ones are left out."""
    seed: int = 1
    """Seed of all random choices."""
    device: str = "cpu"
    """Device: cpu, cuda, or cuda:N for one of several."""
    threads: int | None = None
    """Number of PyTorch CPU threads (default: PyTorch's own choice). Results are bit-identical only with the same
    number of threads."""
    checkpoint_every: int = 20
    """Steps between checkpoints."""
    output: Path | None = None
    """Folder of the run (default: runs/sft-seed<seed>, numbered if that exists)."""
    resume: Path | None = None
    """Folder of a run to continue; it keeps the configuration and the demonstrations it began with."""

    def __post_init__(self) -> None:
        """Refuses bad values before the long work starts."""
        for name in ("episodes", "steps", "batch", "context_length", "threads", "checkpoint_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0.0 <= self.held_out < 1.0:
            raise ConfigError(f"held_out is a share of the questions, at least 0 and below 1, got {self.held_out}.")

    def require_whole(self) -> None:
        """Finds out whether a run can begin with it.

        Raises:
            ConfigError: the model or the demonstrations are not named, or are named twice.
        """
        if self.policy is None:
            raise ConfigError("Say with --policy which model to train: a folder, a hub id, or smollm2.")
        if sum(one is not None for one in (self.data, self.run, self.env)) != 1:
            raise ConfigError("Say where the demonstrations come from: one of --data FILE, --run RUN and --env ENV.")
        if self.skip_malformed and self.data is None:
            raise ConfigError("--skip-malformed would have no effect: it belongs to --data.")
        if self.env is None and not self.prompting.is_usual:
            raise ConfigError("--prompt and --examples would have no effect: they belong to --env.")
        source = self.source
        if source.is_made:
            raise ConfigError(
                f"--policy {self.policy} is made for each run, with a cold start of its own: `arpo train` does that. To teach "
                "it more, name the folder of a run of it."
            )
        if source.urls is not None or source.sampler != "local":
            raise ConfigError(f"--policy {self.policy} samples actions, but nothing is sampled here. Name the model's folder.")

    @property
    def prompting(self) -> Prompting:
        """What the policy is told before its question."""
        return Prompting(self.prompt, self.examples)

    @property
    def source(self) -> Source:
        """The model to train, as `arpo train` would understand it."""
        return source_of(_Named(self.policy or ""), usual=None)

    def resolved(self) -> "SftConfig":
        """Returns the configuration with every open option filled in, and with paths that hold in any directory."""
        import torch

        self.require_whole()
        threads, output = self.threads or torch.get_num_threads(), self.output or _free(self.seed)
        changes: dict[str, Any] = {"threads": threads, "output": output}
        for name in ("data", "run"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name).absolute()
        if self.policy is not None and Path(self.policy).is_dir():
            changes["policy"] = str(Path(self.policy).absolute())
        return replace(self, **changes, learner=self.learner.over(self.steps))

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "SftConfig":
        """Returns the configuration that command-line options stand for."""
        return changed(cls(), nested(OPTIONS, {name: value for name, value in written.items() if value is not None}))

    def save(self, run: Path) -> None:
        """Writes the configuration into the run's folder."""
        write_text(run / FILE, json.dumps(asdict(self), indent=2, default=str) + "\n")

    @classmethod
    def load(cls, run: Path) -> "SftConfig":
        """Reads what `save` wrote.

        Raises:
            ConfigError: the folder is not that of a run of `arpo sft`, or has settings of another version.
        """
        file = run / FILE
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            values = None
        if not isinstance(values, dict) or not {"held_out", "episodes"} <= values.keys():
            raise ConfigError(f"{run} is not the folder of a run: there is no {FILE} in it.")
        if strange := sorted(unknown(cls, values)):
            raise ConfigError(f"{file} has settings that this version does not know: {', '.join(strange)}.")
        config: SftConfig = read(cls, values)
        return replace(config, output=run, resume=run)


@dataclass(frozen=True)
class _Named:
    """A policy without further options."""

    policy: str
    policy_args: tuple[str, ...] = ()
    model_folder: str | None = None
    engine: str = "local"
    engine_args: tuple[str, ...] = ()


def _free(seed: int) -> Path:
    candidates = [Path("runs") / f"sft-seed{seed}", *(Path("runs") / f"sft-seed{seed}-{i}" for i in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


_UNLISTED = (
    *(f"learner.{name}" for name in ("epochs", "minibatches", "importance", "importance_cap", "entropy_bonus", "bad_steps")),
    *("learner.schedule.steps", "learner.schedule.floor"),
)
"""What concerns rewards, or can only be set in Python."""


def _options() -> dict[str, Option]:
    found = options_of(SftConfig, _UNLISTED, {LoRA: (int, lambda rank: LoRA(rank=rank, alpha=2 * rank))})
    usual = SftConfig()
    return {name: replace(option, default=option.value(usual)) for name, option in found.items()}


OPTIONS: Mapping[str, Option] = _options()
"""The options of `arpo sft` by name."""

GROUPS = (
    Group(
        "demonstrations",
        "What the policy learns from: a file, a run's best rollouts, or an environment's scripted expert.",
        (
            *("data", "dialect", "skip_malformed", "run", "min_reward"),
            *("env", "env_args", "train_args", "prompt", "examples", "episodes", "held_out", "context_length"),
        ),
    ),
    Group("run", "Which model to train, and how long.", ("policy", "steps", "batch", "seed", "resume")),
    Group(
        "optimisation",
        "How the learner turns demonstrations into new weights.",
        ("learning_rate", "warmup", "decay", "weight_decay", "adam_epsilon", "gradient_clip", "lora"),
    ),
    Group(
        "memory and speed",
        "What a step costs. None of these options changes what is learned, apart from rounding.",
        ("device", "threads", "micro_batch_tokens", "packing", "attention", "autocast", "gradient_checkpointing"),
    ),
    Group("output", "What a run writes, and where.", ("output", "checkpoint_every")),
)
"""Each option of `arpo sft` stands in exactly one of them."""
