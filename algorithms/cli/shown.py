"""The demonstrations of `arpo sft`, from whichever source its options name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from .. import seeds
from ..models.demonstrations.expert import Demonstration, demonstrations, has_demonstrator
from ..models.demonstrations.kept import best_paths
from ..models.demonstrations.lesson import Lesson, lesson
from ..models.demonstrations.messages import read_conversations
from ..models.loading import load_tokenizer
from ..tracking.trees import read_trees
from .environments import env_maker
from .mixtures import env_arguments
from .parts import dialect_of, renderer_for
from .policy_source import model_in
from .sft_config import SftConfig

Told = Callable[[int, int], None]


def lessons_for(config: SftConfig, folder: Path, told: Told, note: Callable[[str], None]) -> list[Lesson]:
    """Returns the demonstrations as tokens of a model; those that are too long are left out.

    Args:
        config: see `SftConfig`.
        folder: of the model.
        told: called with the number of episodes that the expert has played, and their total.
        note: called with a line about what is left out.

    Raises:
        ConfigError: there are none.
    """
    tokenizer = load_tokenizer(folder)
    if config.run is not None:
        found = _of_run(config.run, config.min_reward, tokenizer)
    else:
        shown, dialect = _shown(config, told, note)
        renderer = renderer_for(folder, tokenizer, dialect)
        config.prompting.require_read(renderer.with_instructions)
        found = [lesson(one, renderer) for one in shown]
    kept = [one for one in found if len(one.tokens) <= config.context_length and one.action[1:].any()]
    if len(kept) < len(found):
        note(f"left out: {len(found) - len(kept)} demonstrations of more than {config.context_length} tokens")
    if not kept:
        limit, longest = f"--context-length {config.context_length}", max(len(one.tokens) for one in found)
        raise ConfigError(f"No demonstration can be learned: none fits into {limit}; the longest has {longest} tokens.")
    return kept


def _shown(config: SftConfig, told: Told, note: Callable[[str], None]) -> tuple[Sequence[Demonstration], str]:
    """Returns demonstrations as text, and their dialect."""
    if config.data is not None:
        found = read_conversations(config.data, config.dialect, skip_malformed=config.skip_malformed)
        for reason in found.malformed:
            note(f"left out: {reason}")
        return found.shown, config.dialect
    assert config.env is not None, "one source is named"
    arguments = env_arguments(config.env, (*config.env_args, *config.train_args))
    make_env = env_maker(config.env, arguments, config.prompting)
    if not has_demonstrator(make_env):
        raise ConfigError(f"{config.env} has no scripted expert. Give demonstrations with --data, or rollouts with --run.")
    seed = seeds.derive(config.seed, "expert")
    return demonstrations(make_env, config.episodes, seed=seed, perfect=True, told=told), dialect_of(make_env)


def _of_run(run: Path, least: float, tokenizer: Any) -> list[Lesson]:
    """Returns the best rollouts of a run.

    Raises:
        ConfigError: there are none, they cannot be read, or their tokens are not those of this tokenizer.
    """
    files = [file for name in ("trees.jsonl.zst", "trees.jsonl") if (file := run / name).is_file()]
    if not files:
        raise ConfigError(f"{run} has no rollouts: there is no trees.jsonl.zst in it. Was it run with --keep-trees none?")
    if load_tokenizer(model_in(run)).get_vocab() != tokenizer.get_vocab():
        raise ConfigError(f"The rollouts of {run} are tokens of another tokenizer. Train its own policy: --policy {run}")
    try:
        return best_paths(read_trees(files[0]), least)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{files[0]} cannot be read: {error}") from error


def split(lessons: Sequence[Lesson], share: float, seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """Returns the demonstrations to learn from and the held-out ones; no question is in both.

    Args:
        lessons: all of them.
        share: of the questions to hold out, at least one of several unless it is 0.
        seed: of the choice.
    """
    prompts = list(dict.fromkeys(one.prompt for one in lessons))
    count = min(len(prompts) - 1, max(1, round(share * len(prompts)))) if share > 0.0 else 0
    order = seeds.generator(seed, "held out").permutation(len(prompts))
    held_out = {prompts[i] for i in order[:count]}
    return [one for one in lessons if one.prompt not in held_out], [one for one in lessons if one.prompt in held_out]
