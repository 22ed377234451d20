"""`arpo entropy`: the entropy of a policy before and after tool results, per tool, as a table, a plot and JSON."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from arpo_envs import ConfigError

from ..durable import write_text
from ..evaluation import EntropyProfile, entropy_profile
from ..metrics import as_json
from ..models.devices import find_device
from ..tracking.trees import read_trees
from ..tree import RolloutTree
from .answering import trees_of
from .asked import asked
from .config import TrainConfig
from .docstrings import with_help
from .entropy_shown import draw, table, written
from .environments import env_maker, folder_of
from .eval_config import EvalConfig
from .mixtures import env_arguments
from .outputs import require_folder
from .parts import starting_policy
from .policy_source import Source, source_of
from .progress import saying
from .tools import require_ready

_TREES = "trees.jsonl.zst"
_OF_A_POLICY = (
    "policy_args",
    "model_folder",
    "engine",
    "engine_args",
    "env",
    "args",
    "prompt",
    "examples",
    "action_tokens",
    "context_length",
)


@with_help
@dataclass(frozen=True)
class EntropyConfig:
    """Plot the entropy of a policy around tool results."""

    policy: str | None = None
    """As for `arpo eval`, or "embedded" for the start that `arpo train` uses. Not with --run."""
    policy_args: tuple[str, ...] = ()
    """Arguments of a policy from another package, each NAME=VALUE."""
    model_folder: str | None = None
    """As for `arpo eval`: the model that a server or a policy from another package samples from."""
    engine: Literal["local", "vllm"] = "local"
    """Engine that samples the actions. local: the package's own. vllm: vLLM, in a process of its own; its entropies, and those
    of a server behind a URL, are estimates."""
    engine_args: tuple[str, ...] = ()
    """Arguments of vLLM, each NAME=VALUE, e.g. dtype=bfloat16."""
    run: Path | None = None
    """Folder of a run, or a file of trees: these are read instead of asking a policy. After a result, every action counts that
    was drawn there, so that a result weighs as often as the run continued it."""
    env: str | None = None
    """Environment id, or a mixture ID=WEIGHT,ID=WEIGHT (default: the run's own, or ARPO/SearchMini-v0)."""
    args: tuple[str, ...] = ()
    """Environment arguments, each NAME=VALUE (default: the run's evaluation arguments, or split=test)."""
    prompt: str | None = None
    """What the policy is told before its question: ours, paper or search-r1 (default: the run's, or ours)."""
    examples: int | None = None
    """Few-shot examples to add to the instructions (default: as many as the run, or none)."""
    questions: int = 100
    """How many questions to ask."""
    samples: int = 4
    """Rollouts per question."""
    tokens: int = 20
    """How many tokens to look at before and after a result."""
    temperature: float = 1.0
    """Sampling temperature; entropies are those of the distributions sampled from."""
    seed: int = 1
    """Seed for sampling and for the intervals."""
    action_tokens: int | None = None
    """Maximum tokens per action (default: the run's, or that of `arpo train`)."""
    context_length: int | None = None
    """Maximum tokens per episode (default: the run's, or that of `arpo train`)."""
    device: str = "cpu"
    """Device of the policy: cpu, cuda, or cuda:N for one of several."""
    output: Path = Path("entropy")
    """Folder for entropy.json and entropy.png."""

    def __post_init__(self) -> None:
        """Refuses bad values before the work starts."""
        if (self.policy is None) == (self.run is None):
            raise ConfigError("Say what to look at: either --policy, e.g. --policy embedded, or --run with a run or its trees.")
        if self.run is not None and (
            unused := [name for name in _OF_A_POLICY if getattr(self, name) not in (None, (), "local")]
        ):
            raise ConfigError(
                f"--{unused[0].replace('_', '-')} would have no effect: --run reads rollouts that are already made."
            )
        for name in ("questions", "samples", "tokens", "action_tokens", "context_length"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}: a greedy policy has no entropy.")
        if self.policy is not None:
            self.evaluated(self.policy)  # this finds options that contradict each other

    def evaluated(self, policy: str) -> EvalConfig:
        """Returns the evaluation whose rollouts are looked at."""
        return EvalConfig(
            policy=policy,
            policy_args=self.policy_args,
            model_folder=self.model_folder,
            engine=self.engine,
            engine_args=self.engine_args,
            env=self.env,
            args=self.args,
            prompt=self.prompt,
            examples=self.examples,
            questions=self.questions,
            samples=self.samples,
            temperature=self.temperature,
            seed=self.seed,
            action_tokens=self.action_tokens,
            context_length=self.context_length,
            device=self.device,
        )


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo entropy`."""
    about = "Plot the entropy of a policy around tool results."
    config = tyro.cli(EntropyConfig, args=list(arguments), prog="arpo entropy", description=about)
    require_folder(config.output)
    console = Console(highlight=False)
    with saying(console, "collecting rollouts …" if config.run is None else "reading trees …") as say:
        trees, title, estimate = _kept(config.run, say) if config.run is not None else _sampled(config, say)
        profile = profile_of(trees, config.tokens, config.seed)
    for line in table(profile, title):
        console.print(line)
    console.print(Text(estimate, style="dim"))
    config.output.mkdir(parents=True, exist_ok=True)
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    record = {"config": asked, "title": title, "estimate": estimate, **written(profile)}
    write_text(config.output / "entropy.json", as_text(record))
    draw(config.output / "entropy.png", profile, title)
    console.print(Text(f"Written to {config.output}: entropy.json, entropy.png", style="dim"))
    return 0


def as_text(record: dict[str, object]) -> str:
    """Returns a record as JSON; NaN becomes null."""
    return json.dumps(as_json(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def profile_of(trees: Sequence[RolloutTree], tokens: int, seed: int) -> EntropyProfile:
    """Returns the profile of trees.

    Raises:
        ConfigError: there is nothing to plot: no tree, no tool result, or no entropy.
    """
    if not any(any(node.sampled) for tree in trees for node in tree.nodes):
        raise ConfigError("There is nothing to plot: the policy sampled no token.")
    require_entropies(trees, "The policy")
    profile = entropy_profile(trees, tokens=tokens, seed=seed)
    if not profile.tools:
        raise ConfigError(
            f"There is nothing to plot: no tool was called in {len(trees)} questions. Look at some with `arpo eval --show 3`."
        )
    return profile


def require_entropies(trees: Sequence[RolloutTree], policy: str) -> None:
    """Checks that a policy gives entropies, if it has sampled anything.

    Args:
        trees: some that it sampled.
        policy: what to call it.

    Raises:
        ConfigError: all are 0.
    """
    drawn = [node.entropies for tree in trees for node in tree.nodes if any(node.sampled)]
    if drawn and not any(map(any, drawn)):
        raise ConfigError(f"There is nothing to plot: every entropy is 0. {policy} gives none, or it was greedy.")


def _kept(run: Path, say: Callable[[str], None]) -> tuple[list[RolloutTree], str, str]:
    """Returns the trees of a run or of a file, a title, and how the entropies were estimated."""
    file = run / _TREES if run.is_dir() else run
    if not file.is_file():
        raise ConfigError(f"There is no file {file}: --run takes the folder of a run that kept its trees, or a file of trees.")
    try:
        trees = []
        for number, tree in enumerate(read_trees(file)):
            say(f"{number:,} trees read")
            trees.append(tree)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} does not hold trees, or is damaged: {error}") from error
    if (file.parent / "config.json").is_file():
        return trees, str(run), estimate_of(TrainConfig.load(file.parent).source)
    return trees, str(run), "The file does not say whether the entropies are of the full vocabulary."


def _sampled(config: EntropyConfig, say: Callable[[str], None]) -> tuple[list[RolloutTree], str, str]:
    """Returns trees of a policy, a title, and how the entropies are estimated."""
    policy, env = str(config.policy), config.env or "ARPO/SearchMini-v0"
    find_device(config.device)
    if policy == "embedded":
        made = TrainConfig(policy=policy, env=env, output=config.output).resolved()
        require_ready(env_maker(env, env_arguments(env, config.args or ("split=test",))))  # before the model is made

        def told(name: str, done: int, total: int, _: Any) -> None:
            say(f"cold start, {name}: step {done} of {total}")

        policy = str(starting_policy(made, config.output / folder_of(env), told))
    evaluation = config.evaluated(policy)
    folder, env, words = evaluation.resolved()
    questions = asked(evaluation, env, words)
    made_env = env_maker(env, dict(questions.options), evaluation.prompting)
    require_ready(made_env)  # before the model is loaded
    look = partial(require_entropies, policy=f"The policy {config.policy}")
    trees = asyncio.run(trees_of(evaluation, folder, questions.starts, made_env, look, say))
    source = source_of(evaluation, usual=None)
    return trees, f"{config.policy} on {env} {' '.join(words)}", estimate_of(source)


def estimate_of(source: Source) -> str:
    """Returns in a sentence what a policy's entropies are, and how they are biased."""
    if source.sampler == "local":
        return "Entropies are those of the full vocabulary."
    if source.sampler in ("vllm", "server"):
        return (
            "Entropies are estimates from the likeliest tokens: the middle of the range these allow. The tail is unknown, so "
            "that high entropies are less certain than low ones."
        )
    return f"Entropies are as {source.sampler} gives them; its own documentation says whether they are of the full vocabulary."
