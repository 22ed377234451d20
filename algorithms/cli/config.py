"""The configuration of a training run, and the parts it stands for."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from arpo_envs import ConfigError

from ..algorithm import Algorithm
from ..branching import EntropyBranching
from ..durable import write_text
from ..learner import Schedule
from ..policies.named import policy_maker
from ..policies.served import is_url
from ..recipes import make, recipe
from ..rollout import Limits, MakeEnv
from .environments import env_maker, parse_arguments
from .paths import from_the_root
from .policy_source import EMBEDDED, is_named, model_in, policy_folder


@dataclass(frozen=True)
class TrainConfig:
    """Train a policy on an environment with an algorithm."""

    env: str = "ARPO/SearchMini-v0"
    """Environment id, as for gym.make; `arpo envs` lists them, those of installed packages too. "package:Name-v0" imports
    the package first."""
    env_args: tuple[str, ...] = ()
    """Environment arguments, each NAME=VALUE, e.g. hops=1."""
    train_args: tuple[str, ...] = ("split=train",)
    """More of them for the training environment only."""
    eval_args: tuple[str, ...] = ("split=test",)
    """More of them for the evaluation environment only."""
    policy: str = EMBEDDED
    """Folder or hub id of a Hugging Face causal language model; the URL of a server of one, or several, comma-separated, for
    its replicas; "smollm2"; "embedded": a small one built and cold-started here; or a policy of another package, by name or as
    package.module:object."""
    policy_args: tuple[str, ...] = ()
    """Arguments of a policy of another package, each NAME=VALUE."""
    model_folder: str | None = None
    """With a URL: folder or hub id of the learner's model, where the server's own name for it means nothing here. With a
    policy of another package: the model it draws from, "embedded" if left out."""
    weights_folder: Path | None = None
    """With a URL: folder that the server sees under the same name, for new weights; "weights" in the run's, if left out."""
    engine: Literal["local", "vllm"] = "local"
    """What draws the actions, unless the policy is behind a URL: our own engine, or vLLM in a process beside this one."""
    engine_args: tuple[str, ...] = ()
    """Arguments of vLLM, each NAME=VALUE, e.g. dtype=bfloat16 gpu_memory_utilization=0.5."""
    algorithm: str = "arpo"
    """Name of the algorithm; `arpo algorithms` lists them, those of installed packages too. Or package.module:object."""
    rollouts: int | None = None
    """M, rollouts per prompt; the algorithm's own number if left out."""
    roots: int | None = None
    """N, rollouts that start from the prompt; the algorithm's own share of M if left out."""
    probe: int | None = None
    """k, tokens after a tool result whose entropy decides; 4 for the embedded policy, 20 otherwise."""
    algorithm_args: tuple[str, ...] = ()
    """More arguments of the algorithm, each NAME=VALUE, e.g. attribution=hard."""
    steps: int = 80
    """Optimizer steps."""
    prompts: int = 24
    """Prompts per step."""
    learning_rate: float | None = None
    """Of AdamW; 5e-4 for the embedded policy, 1e-6 otherwise."""
    weight_decay: float = 0.0
    """Of AdamW."""
    adam_epsilon: float | None = None
    """Of AdamW; 1 for the embedded policy, 1e-8 otherwise."""
    gradient_clip: float | None = None
    """Largest global norm of the gradient; 10 for the embedded policy, 1 otherwise."""
    micro_batch_tokens: int | None = None
    """Padded tokens that go through the learner together, for memory's sake; 16384 for the embedded policy, 4096 otherwise."""
    temperature: float = 1.0
    """Of sampling and of the learner's log-probabilities."""
    importance: Literal["token", "sequence", "none"] = "token"
    """Truncated importance sampling where the sampler's probabilities are not the learner's: per token, per path, or not."""
    importance_cap: float = 2.0
    """Largest weight it gives."""
    warmup: int = 0
    """Optimizer steps over which the learning rate rises."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """How it falls after that, to 0 at the end of the run."""
    epochs: int = 1
    """How often the learner goes through each step's trees."""
    minibatches: int = 1
    """Optimizer steps per epoch."""
    entropy_bonus: float = 0.0
    """Coefficient of the entropy, which is added to what is maximised."""
    lora: int | None = None
    """Rank of the adapters that are trained instead of the model; needs the package peft."""
    autocast: Literal["none", "bfloat16"] = "none"
    """Precision of the learner's matrix products."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    packing: Literal["auto", "flat"] = "auto"
    """Whether the learner computes what paths share once."""
    attention: Literal["as loaded", "flex_attention"] = "as loaded"
    """The learner's attention; FlexAttention needs CUDA."""
    action_tokens: int | None = None
    """Longest action; 16 for the embedded policy, 512 otherwise."""
    context_length: int | None = None
    """Longest episode in tokens; 512 for the embedded policy, 4096 otherwise."""
    engine_tolerance: float | None = None
    """Nats by which the engine's log-probabilities may be off the model's own when a run begins; what rounding in the engine's
    precision explains, if left out. A quantised engine needs more."""
    mode: Literal["deterministic", "free"] = "deterministic"
    """deterministic: same seed, same bytes. free: no path waits for another."""
    shuffle_rewards: bool = False
    """The control in which rewards say nothing."""
    eval_questions: int = 300
    """Held-out questions asked before and after."""
    checkpoint_every: int = 10
    """Steps between checkpoints."""
    seed: int = 1
    """Of everything."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = None
    """CPU threads of torch, of which sums and so all numbers depend; as many as torch takes by itself, if left out."""
    output: Path | None = None
    """Folder of the run; runs/<algorithm>-seed<seed> with a number where that is taken, if left out."""
    resume: Path | None = None
    """Folder of a run to go on with; its own configuration is used. With more --steps, a finished one is extended; where the
    model was moved, --policy says where it is."""
    keep_trees: Literal["all", "none"] | int = "all"
    """How many steps' rollout trees stay in trees.jsonl.zst: all, none, or those of the last N steps (while a run goes on, up
    to twice as many)."""
    track: Literal["none", "wandb"] = "none"
    """Where metrics go beside metrics.jsonl; wandb runs offline when there is no key."""
    wandb_project: str = "arpo-envs"
    """Project of wandb."""
    dry_run: bool = False
    """Build and check everything, print the plan, train nothing."""

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
        check_engine(self.policy, self.engine, self.engine_args)
        check_policy_options(self.policy, self.policy_args, self.model_folder)
        if self.weights_folder is not None and not is_url(self.policy):
            raise ConfigError("weights_folder would have no effect: it belongs to a policy behind a URL.")
        if self.engine_tolerance is not None and not self.engine_tolerance > 0.0:
            raise ConfigError(f"engine_tolerance must be above 0 nats, got {self.engine_tolerance}.")
        if not self.importance_cap >= 1.0:
            raise ConfigError(f"importance_cap must be at least 1, got {self.importance_cap}.")

    @property
    def model(self) -> str:
        """What describes the model that is trained: `policy` itself, unless that only draws."""
        return self.model_folder or (EMBEDDED if is_named(self.policy) else self.policy)

    def resolved(self) -> "TrainConfig":
        """Returns the configuration with everything filled in that was left to us."""
        import torch  # not before a run is wanted: `arpo envs` and `arpo play` are quick

        small = self.model == EMBEDDED or (self._description() / MARK).is_file()
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

    def _description(self) -> Path:
        """Returns the folder of the policy; a server is asked for it."""
        return policy_folder(self.model, weights=False) if is_url(self.policy) else model_in(Path(self.model))

    def save(self, run: Path) -> None:
        """Writes the configuration into the run's folder."""
        values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        write_text(run / "config.json", json.dumps(values, indent=2) + "\n")

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


def check_policy_options(policy: str, arguments: Sequence[str], model_folder: str | None) -> None:
    """Finds options that belong to a policy of another kind, or are none of its own.

    Raises:
        ConfigError: there are such.
    """
    named = is_named(policy)
    if named:
        policy_maker(policy, parse_arguments(arguments))
    elif arguments:
        raise ConfigError("policy_args would have no effect: they belong to a policy of another package.")
    if model_folder is not None and not named and not is_url(policy):
        raise ConfigError("model_folder would have no effect: it belongs to a policy behind a URL, or of another package.")


def check_engine(policy: str, engine: str, arguments: Sequence[str]) -> None:
    """Finds options of the engine that contradict each other.

    Raises:
        ConfigError: they do.
    """
    if engine != "local" and is_named(policy):
        raise ConfigError(f"--engine {engine} would have no effect: the policy {policy} draws by itself.")
    if engine != "local" and is_url(policy):
        raise ConfigError(f"--engine {engine} would have no effect: {policy} is a server, which draws by itself.")
    if arguments and engine == "local":
        raise ConfigError("--engine-args would have no effect: they belong to --engine vllm.")


MARK = "embedded.json"
"""File in a policy folder that says how to render for an embedded policy."""

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
