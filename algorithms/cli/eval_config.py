"""The options of `arpo eval`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arpo_envs import ConfigError

from ..checkpoint import BEST
from ..evaluation import Prices
from .asked import chosen
from .config import TrainConfig
from .docstrings import with_help
from .policy_source import Source, measured_folder, source_of
from .prompting import Prompting
from .tools import Mode


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
    prompt: str | None = None
    """What the policy is told before its question, as for `arpo train`: ours, paper or search-r1 (default: the run's, or
    ours)."""
    examples: int | None = None
    """Few-shot examples to add to the instructions, as for `arpo train` (default: as many as the run, or none)."""
    benchmark: str | None = None
    """Benchmark to ask, e.g. gsm8k, in the environment it is made for unless --env names one; docs/benchmarks.md lists them."""
    data: Path | None = None
    """File with a copy of the benchmark: JSON Lines, a JSON list, CSV or Parquet (default: from the Hugging Face hub)."""
    skip_malformed: bool = False
    """Leave out rows of the benchmark that are malformed or need an attachment, rather than stop before the start."""
    questions: int | None = None
    """How many questions to ask; they are the same for every policy (default: 300, or all of the benchmark)."""
    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""
    samples: int = 1
    """Rollouts per question; with several, pass@k for every k up to that many is reported."""
    concurrency: int = 64
    """Maximum rollouts at the same time; as many questions are asked at once as this allows. A killed evaluation loses at most
    these."""
    seed: int = 1
    """Seed for sampling."""
    engine: Literal["local", "vllm"] = "local"
    """Engine that samples the actions. local: the package's own. vllm: vLLM, in a process of its own. A server behind a URL
    does its own sampling."""
    engine_args: tuple[str, ...] = ()
    """Arguments of the engine, each NAME=VALUE, e.g. dtype=bfloat16 for vLLM."""
    action_tokens: int | None = None
    """Maximum tokens per action (default: the run's, or that of `arpo train`)."""
    context_length: int | None = None
    """Maximum tokens per episode (default: the run's, or that of `arpo train`)."""
    idle_turns: int | None = None
    """End an episode as stalled after this many turns in a row without a call or an answer; 0: never (default: the run's, or
    that of `arpo train`)."""
    tools: Mode = "live"
    """Who answers calls of tools that declare themselves pure, such as search. live: the tools. record: the tools, but
    identical calls run only once; results are saved in --recording. replay: the recording; pure tools are not called."""
    recording: Path | None = None
    """File to record into, which must not exist yet, or to replay."""
    device: str = "cpu"
    """Device of the policy: cpu, cuda, or cuda:N for one of several."""
    show: int = 0
    """Number of transcripts to print."""
    json: Path | None = None
    """File to write the result to, as one flat JSON object."""
    records: Path | None = None
    """File to write each answer to, one JSON object per line; it must not exist yet unless --resume is given."""
    resume: bool = False
    """Continue the evaluation that --records belongs to, with the same options."""
    closed_book: bool = False
    """Also ask the questions without tools, and report how many the policy gets right: what it has seen before, it need not
    find. With --records, these answers are kept in FILE.closed."""
    judge: str | None = None
    """URL of an OpenAI-compatible server whose chat model judges each answer, beside the other scores; its key, if it needs
    one, is taken from ARPO_JUDGE_KEY. Needs --records: prompts and verdicts are kept beside them, in FILE.judge."""
    judge_model: str | None = None
    """Name of the judge on that server (default: the first one it lists)."""
    price_read: float = 0.0
    """Price of a million tokens that the policy reads; each action reads the whole context. If any price is given, the result
    says what the answers cost."""
    price_sampled: float = 0.0
    """Price of a million tokens that the policy samples."""
    price_call: float = 0.0
    """Price of a tool call."""
    against: Path | None = None
    """File of another evaluation's --records, of the same questions, to compare this one with by a paired test."""

    def __post_init__(self) -> None:
        """Refuses bad values before the work starts."""
        for name in ("questions", "samples", "concurrency", "action_tokens", "context_length"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        chosen(self)
        if self.resume and self.records is None:
            raise ConfigError("--resume needs --records: the file of the evaluation to continue.")
        if self.judge is not None and self.records is None:
            raise ConfigError("--judge needs --records: the judge's prompts and verdicts are kept beside them.")
        if self.judge is None and self.judge_model is not None:
            raise ConfigError("--judge-model needs --judge: the URL of its server.")
        _ = self.source  # this finds options that contradict each other
        if (self.tools == "live") != (self.recording is None):
            raise ConfigError(
                "--tools and --recording belong together: give both, e.g. --tools record --recording tools.sqlite."
            )
        if self.tools == "record" and not self.resume and self.recording is not None and self.recording.exists():
            raise ConfigError(
                f"A recording belongs to one evaluation, and {self.recording} exists. Name another file, or remove it."
            )
        if self.idle_turns is not None and self.idle_turns < 0:
            raise ConfigError(f"idle_turns must be at least 1, or 0 for no limit, got {self.idle_turns}.")
        _ = self.prices
        self.prompting.require_live(self.tools)
        if self.temperature < 0:
            raise ConfigError(f"temperature must not be negative, got {self.temperature}.")
        if self.temperature == 0 and self.samples > 1:
            raise ConfigError(f"Greedy samples are all the same: leave out --samples {self.samples} with --temperature 0.")

    @property
    def block(self) -> int:
        """How many questions are asked side by side."""
        return max(1, self.concurrency // self.samples)

    @property
    def prices(self) -> Prices:
        """What reading, sampling and calling cost."""
        return Prices(self.price_read, self.price_sampled, self.price_call)

    @property
    def prompting(self) -> Prompting:
        """What the policy is told before its question.

        Raises:
            ConfigError: there is no such prompt, or the number of examples is below 0.
        """
        run = run_measured(Path(self.source.model))
        usual = TrainConfig.load(run).prompting if run is not None else Prompting()
        return Prompting(self.prompt or usual.prompt, usual.examples if self.examples is None else self.examples)

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
        run, env, arguments = run_measured(Path(source.model)), self.env, self.args
        benchmark = chosen(self)
        if benchmark is not None:
            return measured_folder(source), env or benchmark.env, arguments
        if env is None and run is not None:
            trained = TrainConfig.load(run)
            env, arguments = trained.env, arguments or (*trained.env_args, *trained.eval_args)
        folder = measured_folder(source)
        return folder, env or "ARPO/SearchMini-v0", arguments or ("split=test",)


def run_measured(folder: Path) -> Path | None:
    """Returns the folder of the run whose policy is measured, None for a model by itself.

    Args:
        folder: of the run, for its newest policy, or `best` in it.
    """
    if folder.name == BEST and TrainConfig.is_in(folder.parent):
        return folder.parent
    return folder if (folder / "policy").is_dir() and (folder / "config.json").is_file() else None
