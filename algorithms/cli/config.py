"""The configuration of a training run, and the parts it stands for."""

import inspect
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from arpo_envs import ConfigError

from ..algorithm import Algorithm
from ..branching import EntropyBranching
from ..durable import write_text
from ..learner import Schedule
from ..recipes import make, recipe
from ..rollout import Limits, MakeEnv
from .docstrings import with_help
from .environments import env_maker, parse_arguments
from .paths import from_the_root
from .policy_source import Source, source_of


@with_help
@dataclass(frozen=True)
class TrainConfig:
    """Train a policy on an environment with an algorithm."""

    env: str = "ARPO/SearchMini-v0"
    """Environment id, as for gym.make. `arpo envs` lists them all, those of installed packages included; "package:Name-v0"
    imports the package first."""
    env_args: tuple[str, ...] = ()
    """Environment arguments, each NAME=VALUE, e.g. hops=1."""
    train_args: tuple[str, ...] = ("split=train",)
    """Further environment arguments, for training only."""
    eval_args: tuple[str, ...] = ("split=test",)
    """Further environment arguments, for evaluation only."""
    policy: str = "embedded"
    """One of: a folder or hub id of a Hugging Face causal language model; the URL of a server, or several URLs of replicas,
    separated by commas; "smollm2"; "embedded", a small model that is built and cold-started here; or a policy from another
    package, by name or as package.module:object."""
    policy_args: tuple[str, ...] = ()
    """Arguments of a policy from another package, each NAME=VALUE."""
    model_folder: str | None = None
    """Folder or hub id of the model to train. With a URL: needed if the server's name for its model means nothing on this
    machine. With a policy from another package: the model it samples from (default: "embedded")."""
    cold_start: Literal["auto", "fresh"] = "auto"
    """How the embedded policy begins. auto: where the package has a stored start for the environment, as for the default one,
    with that; otherwise it is cold-started in this run. fresh: always cold-started in this run, which takes minutes."""
    weights_folder: Path | None = None
    """With a URL: folder for new weights, which the server sees under the same path (default: "weights" in the run's
    folder)."""
    engine: Literal["local", "vllm"] = "local"
    """What samples the actions, unless the policy is behind a URL: our own engine, or vLLM in a separate process."""
    engine_args: tuple[str, ...] = ()
    """Arguments of vLLM, each NAME=VALUE, e.g. dtype=bfloat16 gpu_memory_utilization=0.5."""
    algorithm: str = "arpo"
    """Name of the algorithm, or package.module:object. `arpo algorithms` lists them all, those of installed packages
    included."""
    rollouts: int | None = None
    """M, rollouts per prompt (default: the algorithm's own)."""
    roots: int | None = None
    """N, rollouts that start from the prompt (default: the algorithm's own share of M)."""
    probe: int | None = None
    """k, tokens sampled after a tool result whose entropy decides about a fork (default: 4 for the embedded policy, otherwise
    20)."""
    algorithm_args: tuple[str, ...] = ()
    """Further arguments of the algorithm, each NAME=VALUE, e.g. attribution=hard."""
    steps: int = 48
    """Training steps."""
    prompts: int = 24
    """Prompts per step."""
    learning_rate: float | None = None
    """Learning rate of AdamW (default: 5e-4 for the embedded policy, otherwise 1e-6)."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    adam_epsilon: float | None = None
    """Epsilon of AdamW (default: 1 for the embedded policy, otherwise 1e-8)."""
    gradient_clip: float | None = None
    """Maximum global norm of the gradient (default: 10 for the embedded policy, otherwise 1)."""
    micro_batch_tokens: int | None = None
    """Padded tokens per micro-batch; fewer need less memory and change nothing else (default: 16384 for the embedded policy,
    otherwise 4096)."""
    temperature: float = 1.0
    """Sampling temperature; the learner computes its log-probabilities at the same one."""
    importance: Literal["token", "sequence", "none"] = "token"
    """Truncated importance sampling, for samplers whose probabilities differ from the learner's: per token, per path, or
    none."""
    importance_cap: float = 2.0
    """Maximum importance weight."""
    warmup: int = 0
    """Optimizer steps over which the learning rate rises."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up; linear and cosine end at 0."""
    epochs: int = 1
    """Passes of the learner over each step's trees."""
    minibatches: int = 1
    """Optimizer steps per epoch."""
    entropy_bonus: float = 0.0
    """Coefficient of the entropy bonus."""
    lora: int | None = None
    """Rank of LoRA adapters to train instead of the whole model; needs the package peft."""
    autocast: Literal["none", "bfloat16"] = "none"
    """Precision of the learner's matrix products."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them."""
    packing: Literal["auto", "flat"] = "auto"
    """auto: tokens that paths share are computed once. flat: every path is a row of its own."""
    attention: Literal["as loaded", "flex_attention"] = "as loaded"
    """The learner's attention; FlexAttention needs CUDA."""
    action_tokens: int | None = None
    """Maximum tokens per action (default: 16 for the embedded policy, otherwise 512)."""
    context_length: int | None = None
    """Maximum tokens per episode (default: 512 for the embedded policy, otherwise 4096)."""
    engine_tolerance: float | None = None
    """Maximum difference, in nats, between the log-probabilities of the engine and of the model itself, checked before a run
    (default: what rounding at the engine's precision explains). A quantised engine needs more."""
    mode: Literal["deterministic", "free"] = "deterministic"
    """deterministic: same seed, same bytes. free: no path waits for another."""
    shuffle_rewards: bool = False
    """Control run: shuffle the rewards, so that they say nothing."""
    eval_questions: int = 300
    """Held-out questions asked before and after training."""
    checkpoint_every: int = 10
    """Steps between checkpoints."""
    seed: int = 1
    """Seed of everything random."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = None
    """PyTorch CPU threads (default: PyTorch's own choice). Results are bit-identical only for the same number."""
    output: Path | None = None
    """Folder of the run (default: runs/<algorithm>-seed<seed>, numbered if that exists)."""
    resume: Path | None = None
    """Folder of a run to continue with its own configuration. Give more --steps to extend a finished run, and --policy if the
    model has moved."""
    keep_trees: Literal["all", "none"] | int = "all"
    """Steps whose rollout trees stay in trees.jsonl.zst: all, none, or the last N (up to 2 N while the run goes on)."""
    track: Literal["none", "wandb"] = "none"
    """Where metrics go, in addition to metrics.jsonl; wandb runs offline if there is no API key."""
    wandb_project: str = "arpo-envs"
    """Project in wandb."""
    dry_run: bool = False
    """Build and check everything, print the plan, and train nothing."""

    def __post_init__(self) -> None:
        """Finds bad numbers before the long work starts."""
        counts = ("prompts", "eval_questions", "checkpoint_every")
        for name in (*counts, "micro_batch_tokens", "action_tokens", "context_length", "threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if isinstance(self.keep_trees, int) and self.keep_trees < 1:
            raise ConfigError(f"keep_trees must be all, none or at least 1 step, got {self.keep_trees}.")
        if self.steps < 0:
            raise ConfigError(f"steps must not be negative, got {self.steps}.")
        if self.minibatches > self.prompts:
            raise ConfigError(f"{self.prompts} prompts cannot be dealt out to {self.minibatches} minibatches.")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0 for training, got {self.temperature}.")
        if self.source.urls is None and self.weights_folder is not None:
            raise ConfigError("weights_folder would have no effect: it belongs to a policy behind a URL.")
        if self.cold_start != "auto" and not self.source.is_made:
            raise ConfigError("cold_start would have no effect: only the embedded policy has one.")
        if self.engine_tolerance is not None and not self.engine_tolerance > 0.0:
            raise ConfigError(f"engine_tolerance must be above 0 nats, got {self.engine_tolerance}.")
        if not self.importance_cap >= 1.0:
            raise ConfigError(f"importance_cap must be at least 1, got {self.importance_cap}.")

    @property
    def source(self) -> Source:
        """What samples the actions, and the model that is trained.

        Raises:
            ConfigError: the options that say so contradict each other.
        """
        return source_of(self, usual="embedded")

    def resolved(self) -> "TrainConfig":
        """Returns the configuration with everything filled in that was left to us."""
        import torch  # not before a run is wanted: `arpo envs` and `arpo play` are quick

        small = self.source.is_small
        fill: dict[str, Any] = dict(_EMBEDDED if small else _LARGE)
        options = inspect.signature(recipe(self.algorithm)).parameters
        usual = {name: options[name].default for name in ("rollouts", "roots") if name in options}
        fill |= {name: default for name, default in usual.items() if isinstance(default, int)}
        if self.rollouts is not None and {"rollouts", "roots"} <= fill.keys():
            fill["roots"] = max(1, self.rollouts * fill["roots"] // fill["rollouts"])
        if "probe" in options:
            fill["probe"] = 4 if small else 20
        fill["threads"] = torch.get_num_threads()
        config = replace(self, **{name: value for name, value in fill.items() if getattr(self, name) is None})
        config = replace(config, **from_the_root(vars(config)))
        return config if config.output is not None else replace(config, output=_free_folder(config))

    def save(self, run: Path) -> None:
        """Writes the configuration into the run's folder, with the versions of the packages it was written with."""
        values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        write_text(run / "config.json", json.dumps(values | {"versions": _versions()}, indent=2) + "\n")

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Whether a folder is that of a run; a model's has a config.json, too."""
        try:
            values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(values, dict) and {"env", "algorithm", "steps"} <= values.keys()

    @classmethod
    def load(cls, run: Path) -> "TrainConfig":
        """Reads what `save` wrote.

        Raises:
            ConfigError: the folder holds no run.
        """
        file = run / "config.json"
        if not cls.is_in(run):
            raise ConfigError(f"{run} holds no run: there is no config.json of `arpo train` in it.")
        values = json.loads(file.read_text(encoding="utf-8"))
        values.pop("versions", None)  # a record, no setting
        for one in fields(cls):
            if isinstance(values.get(one.name), list):
                values[one.name] = tuple(values[one.name])
        if values.get("weights_folder") is not None:
            values["weights_folder"] = Path(values["weights_folder"])
        known = {one.name for one in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ConfigError(f"{file} has settings that this version does not know: {', '.join(unknown)}.")
        return replace(cls(**values), output=run, resume=run)

    def make_algorithm(self) -> Algorithm:
        """Returns the algorithm.

        Raises:
            ConfigError: an option is unknown to it, or contradicts another.
        """
        options = {name: getattr(self, name) for name in ("rollouts", "roots", "probe") if getattr(self, name) is not None}
        more = parse_arguments(self.algorithm_args)
        if twice := sorted(options.keys() & more.keys()):
            raise ConfigError(f"{twice[0]} is an option of its own: --{twice[0]} {more[twice[0]]}.")
        return make(self.algorithm, **options, **more)

    def make_env(self, *arguments: str) -> MakeEnv:
        """Returns a maker of environments; earlier arguments give way to later ones."""
        return env_maker(self.env, parse_arguments((*self.env_args, *arguments)))

    def schedule(self) -> Schedule:
        """Returns the learning rate over the optimizer steps of the run.

        Raises:
            ConfigError: the warm-up leaves nothing of it.
        """
        return Schedule(self.warmup, self.decay, self.steps * self.epochs * self.minibatches)

    def limits(self) -> Limits:
        """Returns what a rollout may take."""
        tokens = self.action_tokens or 512
        return Limits(mode=self.mode, temperature=self.temperature, action_tokens=tokens, answer_reserve=min(64, tokens))


_LARGE: dict[str, Any] = {
    "action_tokens": 512,
    "context_length": 4096,
    "learning_rate": 1e-6,
    "adam_epsilon": 1e-8,
    "gradient_clip": 1.0,
    "micro_batch_tokens": 4096,
}

# With true rewards the embedded policy's gradient is ten times that of shuffled ones. Adam's usual epsilon and
# a clip at 1 would make steps of one size of both, and a random walk of its one decision: an epsilon above every
# gradient leaves their proportion as it is (docs/what-did-not-work.md).
_EMBEDDED: dict[str, Any] = {
    "action_tokens": 16,
    "context_length": 512,
    "learning_rate": 5e-4,
    "adam_epsilon": 1.0,
    "gradient_clip": 10.0,
    "micro_batch_tokens": 16384,
}


def _versions() -> dict[str, str]:
    """Returns the versions of the packages that decide what a run comes to, of those that are installed."""
    found = {}
    for package in ("arpo-envs", "gymnasium", "numpy", "torch", "transformers", "peft", "vllm"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _free_folder(config: TrainConfig) -> Path:
    control = "-shuffled" if config.shuffle_rewards else ""
    name = f"{config.algorithm.rpartition(':')[2]}{control}-seed{config.seed}"
    candidates = [Path("runs") / name, *(Path("runs") / f"{name}-{i}" for i in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def describe_algorithm(algorithm: Algorithm) -> str:
    """Returns an algorithm in one line."""
    branching = algorithm.branching
    roots = branching.roots or algorithm.rollouts
    rule = f", {branching.rule} over the first {branching.probe} tokens" if isinstance(branching, EntropyBranching) else ""
    return f"{algorithm.name}: {algorithm.rollouts} rollouts from {roots} roots{rule} [{algorithm.source}]"
