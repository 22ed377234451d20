"""The parts of a run, built from its configuration: policy, renderer, learner, trainer."""

import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arpo_envs import members

from .. import seeds
from ..cluster import Ahead, RankedLearner, collect_elsewhere
from ..learner import LearnerConfig, TorchLearner
from ..models.built_in import MARK
from ..models.devices import find_device
from ..models.embedded.cold_start import Report, silent
from ..models.loading import load_policy, load_tokenizer
from ..models.named import make_model
from ..policies import Policy
from ..rendering.chat import ChatRenderer
from ..rendering.text import TextRenderer
from ..rollout import Failures, MakeEnv, Start, try_collect
from ..trainer import Trainer
from .config import TrainConfig
from .ends import end_ids, keep_ends
from .policy_source import policy_folder
from .tools import ToolAnswers


@dataclass(frozen=True)
class Parts:
    """Everything a run works with; `held_out` makes the environments of its evaluations.

    The model is what writes its folder: itself, or a learner that lies elsewhere.
    """

    model: Any
    tokenizer: Any
    renderer: TextRenderer
    policy: Policy
    learner: TorchLearner | RankedLearner
    trainer: Trainer
    tools: ToolAnswers
    held_out: MakeEnv

    async def close(self) -> None:
        """Ends what runs elsewhere."""
        try:
            await self.trainer.close()
        finally:
            if isinstance(self.learner, RankedLearner):
                self.learner.close()  # last, as engines may live on the Ray cluster that was started for it


def starting_policy(config: TrainConfig, run: Path, report: Report, tools: ToolAnswers = ToolAnswers()) -> Path:
    """Returns the folder of the policy a run starts from; one that is made for the run is kept in the run's folder.

    A resumed run and the controls can then start from the same weights. `tools` answers the calls of its cold start.
    """
    source, folder = config.source, run / "cold_start"
    if not source.is_made:
        return policy_folder(source.model)
    return folder if (folder / MARK).is_file() else _made(config, folder, tools, report=report)


def rehearsed_policy(config: TrainConfig, folder: Path) -> Path:
    """Returns the folder of the policy a run would start from; one that would be made for the run is left untrained."""
    source = config.source
    return (
        _made(config, folder, ToolAnswers(), report=silent, rehearsal=True) if source.is_made else policy_folder(source.model)
    )


def _made(config: TrainConfig, folder: Path, tools: ToolAnswers, **told: Any) -> Path:
    make_env = tools.before(config.make_env(*config.train_args), "cold start")
    told |= {"seed": config.seed, "device": config.device, "cold_start": config.cold_start}
    return make_model(config.source.model, folder=folder, make_env=make_env, **told)


def renderer_for(folder: Path, tokenizer: Any, dialect: str = "tags", *, evaluating: bool = False) -> TextRenderer:
    """Returns the renderer of a policy folder; it uses the chat template if there is one.

    Args:
        folder: of the policy; the embedded one needs no instructions.
        tokenizer: the policy's.
        dialect: of the environment.
        evaluating: whether a template that rewrites earlier turns is accepted.
    """
    mark, ends = folder / MARK, end_ids(folder, tokenizer)
    if mark.is_file():
        options = json.loads(mark.read_text(encoding="utf-8"))
        return TextRenderer(tokenizer, dialect=dialect, stop_tokens=ends, **options)
    if not getattr(tokenizer, "chat_template", None):
        return TextRenderer(tokenizer, dialect=dialect, stop_tokens=ends)
    return ChatRenderer(tokenizer, dialect=dialect, stop_tokens=ends, allow_rewriting_template=evaluating)


def dialect_of(make_env: MakeEnv) -> str:
    """Returns the name of the dialect an environment speaks; "tags" if it has none of its own."""
    env = make_env()
    dialect = members.DIALECT.through(env)
    name = "tags" if dialect is None else dialect.name
    env.close()
    return str(name)


async def assemble(
    config: TrainConfig,
    folder: Path,
    weights: Path | None = None,
    failures: Failures | None = None,
    tools: ToolAnswers = ToolAnswers(),
    engines: Callable[[TrainConfig, Path, str], Policy] | None = None,
    ranks: Callable[[TrainConfig, Path, Path], RankedLearner] | None = None,
) -> Parts:
    """Returns the parts of a run.

    Args:
        config: resolved.
        folder: of the policy it starts from.
        weights: folder of the policy it continues from.
        failures: is told what fails.
        tools: answers the calls of tools.
        engines: makes the stand-in of engines in other processes, given configuration, folder and dialect; without it,
            rollouts run in this process.
        ranks: makes the stand-in of a learner in other processes, given configuration and the folders of the policies to start
            and to continue from; without it, the learner is in this process.
    """
    assert config.limits is not None, "assemble() takes a resolved configuration"
    algorithm, how = config.make_algorithm(), learner_config(config)
    # adapters need the model they were made for; in a policy folder they are merged into it
    whole = folder if weights is None or how.lora is not None else weights
    is_sharded = ranks is not None and config.placement.learners > 1
    model, tokenizer = (None, load_tokenizer(whole)) if is_sharded else load_policy(whole)
    make_env = tools.before(config.make_env(*config.train_args), "training")
    dialect = dialect_of(make_env)
    renderer = renderer_for(folder, tokenizer, dialect)
    config.prompting.require_read(renderer.with_instructions)
    keep_ends(model, end_ids(folder, tokenizer))  # so that the trained model still ends its turns like this
    is_elsewhere = engines is not None and config.placement.is_elsewhere
    held_out = config.make_env(*config.eval_args)  # once, as worked examples are played for it
    async with AsyncExitStack() as refused:  # what was opened before something else is refused, the last one first
        learner: TorchLearner | RankedLearner
        if not is_elsewhere:
            policy = sampler(config, folder, model, tokenizer)
            refused.push_async_callback(policy.close)
        if is_sharded:
            assert ranks is not None
            model = learner = ranks(config, folder, whole)
            refused.callback(learner.close)
        else:
            learner = TorchLearner(model, how, device=find_device(config.device), **learner_options(config))
        if is_elsewhere:
            assert engines is not None
            policy = engines(config, folder, dialect)
            refused.push_async_callback(policy.close)
        trainer = Trainer(
            make_env=make_env,
            starts=lambda step, refill: training_starts(config, step, refill),
            policy=policy,
            renderer=renderer,
            algorithm=algorithm,
            learner=learner,
            seed=config.seed,
            limits=config.limits,
            shuffled_rewards=config.shuffle_rewards,
            failures=failures or Failures(),
            collect=collect_elsewhere if is_elsewhere else try_collect,
            ahead=Ahead(config.steps) if config.placement.ahead else None,
        )
        refused.pop_all()
    return Parts(model, tokenizer, renderer, policy, learner, trainer, tools, held_out)


def learner_config(config: TrainConfig) -> LearnerConfig:
    """Returns the learner's options in a resolved configuration, with the length of the run filled in.

    Raises:
        ConfigError: the warm-up leaves no steps for the decay, or device or algorithm do not support the options.
    """
    assert config.learner is not None, "learner_config() takes a resolved configuration"
    found = config.learner.over(config.steps)
    found.require_device(find_device(config.device))
    found.require_loss(config.make_algorithm().loss)
    return found


def learner_options(config: TrainConfig) -> dict[str, Any]:
    """Returns what a learner needs to know of a resolved configuration besides its own options."""
    assert config.limits is not None, "learner_options() takes a resolved configuration"
    needs = config.make_algorithm().needs
    wanted = {"reference": "reference" in needs, "values": "values" in needs}
    return {"temperature": config.limits.temperature, "seed": config.seed, **wanted}


def sampler(config: TrainConfig, folder: Path, model: Any, tokenizer: Any) -> Policy:
    """Returns the policy that samples the actions, from a model that may be loaded already."""
    model = {} if model is None else {"model": model}
    return config.source.make(
        folder=folder,
        tokenizer=tokenizer,
        **model,
        context_length=config.context_length or 4096,
        device=config.device,
        weights_folder=config.weights_folder or (config.output or Path()) / "weights",
        training=True,
    )


def training_starts(config: TrainConfig, step: int, refill: int = 0) -> Sequence[Start]:
    """Returns the episodes of a training step, a function of (seed, step, refill) alone."""
    again = ("refill", refill) if refill else ()
    return [Start(seeds.derive(config.seed, "prompt", step, i, *again) % 2**31) for i in range(config.prompts)]


def evaluation_starts(count: int) -> Sequence[Start]:
    """Returns the held-out episodes: the same ones for every run."""
    return [Start(seeds.derive("evaluation", i) % 2**31) for i in range(count)]
