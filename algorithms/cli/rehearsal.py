"""What is found before the long work of a run starts."""

import tempfile
from dataclasses import replace
from pathlib import Path

from ..cluster import require_correction
from ..learner import require_peft
from ..models.agreement import Agreement, require_agreement
from ..models.loading import load_tokenizer
from ..models.named import require_model
from ..rollout import require_prompts
from .config import TrainConfig
from .elsewhere import engines_for, learner_for
from .parts import assemble, dialect_of, learner_config, rehearsed_policy, renderer_for, training_starts
from .policy_source import policy_folder
from .tools import ToolAnswers, require_answerable, require_ready
from .tracked import require_tracker


def require_fitting(config: TrainConfig) -> None:
    """Builds what is quick to build, so that mistakes are found before the long part.

    Raises:
        ConfigError: something does not fit.
    """
    algorithm = config.make_algorithm()
    if config.placement.ahead:
        require_correction(algorithm)
    if learner_config(config).lora is not None:
        require_peft()
    source, make_env = config.source, config.make_env(*config.train_args)
    if source.is_made:
        require_model(source.model, make_env)
    else:
        folder = policy_folder(source.model, weights=False)
        renderer_for(folder, load_tokenizer(folder), dialect_of(make_env))
    source.require()
    config.placement.require()
    config.make_env(*config.eval_args)
    if config.tools != "replay":
        for arguments in (config.train_args, config.eval_args):
            require_ready(config.make_env(*arguments))
    if config.tools != "live":
        for arguments in (config.train_args, config.eval_args):
            answerable(config, *arguments)
        with ToolAnswers.of("replay" if config.recording is not None else "live", config.recording):
            pass  # it can be opened
    require_tracker(config)


def answerable(config: TrainConfig, *arguments: str) -> str:
    """Returns which tools' calls are recorded or replayed; see `require_answerable`."""
    assert config.limits is not None, "it takes a resolved configuration"
    return require_answerable(config.make_env(*arguments), config.limits)


async def rehearse(config: TrainConfig) -> Agreement:
    """Builds everything as a run does, and compares sampler, learner and model; the embedded model is left untrained.

    Raises:
        ConfigError: something does not fit, or they do not agree.
    """
    await config.placement.same_versions()
    assert config.output is not None, "it takes a resolved configuration"
    with tempfile.TemporaryDirectory(prefix="arpo-dry-run-", dir=config.placement.beside(config.output)) as folder:
        config = replace(config, output=Path(folder))
        start = rehearsed_policy(config, Path(folder) / "policy")
        parts = await assemble(config, start, engines=engines_for, ranks=learner_for)
        try:
            await parts.policy.load(parts.learner.weights(), 0)
            with ToolAnswers.of("replay" if config.recording is not None else "live", config.recording) as tools:
                for make_env in config.make_members(*config.train_args):
                    answered = tools.before(make_env, "dry run")
                    require_prompts(answered, training_starts(config, 0), parts.policy, parts.renderer, parts.trainer.limits)
            return await require_agreement(parts.policy, parts.learner, engine_tolerance=config.engine_tolerance)
        finally:
            await parts.close()
