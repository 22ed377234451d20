"""Builds the embedded policy and teaches it its skills, in three phases, on the CPU in a few minutes.

1. Echoes: repeat a random sequence over ALL names. Without it nothing below is ever learned.
2. Drills: perfect episodes whose names are swapped at random; only the reading of names and links is scored. Where there
   are links to follow, names that results repeat are scored, too.
3. Imitation: demonstrations with a dominant bad habit, mixed with drills so that the skills stay. These drills also score
   the answer after the last result; whether to go on searching before that is left to the demonstrations.

What is left for reinforcement learning is the decision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ... import seeds
from ...learner import Exercise, LearnerConfig, SupervisedLearner
from ...rendering.text import TextRenderer
from ...rollout import MakeEnv
from ..demonstrations.expert import demonstrations, demonstrator
from ..demonstrations.lesson import Ids, Lesson, lesson
from .lessons import but_decisions, echoes, pad_lessons, reading_only, renamed, repeated_in_results
from .tokenizer import LINK_MARKS, build_tokenizer, layout, link_ids, name_ids, phrases_between

Scored = tuple[Ids, NDArray[np.bool_]]
Report = Callable[[str, int, int, float | None], None]
"""(phase, steps done, total steps, accuracy where there is one) -> None."""


@dataclass(frozen=True)
class ColdStartConfig:
    """Size of the model and length of the phases.

    Args:
        hidden: width of the model.
        layers: of the transformer.
        heads: of the attention.
        context_length: longest sequence in tokens.
        echo_steps: optimizer steps of the first phase.
        drill_steps: of the second, at most.
        drill_accuracy: the second phase ends soon after this share of names and links is read correctly.
        imitation_steps: of the third.
        echo_rate: peak learning rate of the first phase.
        drill_rate: of the second.
        imitation_rate: of the third.
        batch: sequences per step.
        demonstrations: demonstrations per step of the third phase; drills fill the step up to twice the batch.
        lessons: how many demonstrations to learn from, and as many perfect episodes for drills.
    """

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    context_length: int = 512
    echo_steps: int = 150
    drill_steps: int = 1200
    drill_accuracy: float = 0.97
    imitation_steps: int = 200
    echo_rate: float = 2e-3
    drill_rate: float = 1.5e-3
    imitation_rate: float = 1e-3
    batch: int = 64
    demonstrations: int = 32
    lessons: int = 2000


def silent(phase: str, done: int, total: int, accuracy: float | None) -> None:
    """Reports nothing."""


def build(make_env: MakeEnv, config: ColdStartConfig, *, seed: int, report: Report = silent) -> tuple[Any, Any]:
    """Returns an untrained (model, tokenizer) for an environment.

    Args:
        make_env: its tasks are `Demonstrable`; names and words are taken from it.
        config: see `ColdStartConfig`.
        seed: of the initial weights.
        report: called with the progress.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    env = make_env()
    names = list(demonstrator(env).lexicon())
    told = _told(report, "wording")
    shown = demonstrations(make_env, 200, seed=seeds.derive(seed, "wording"), perfect=True, told=told)
    texts = [text for one in shown for text in (one.question, *(observation for _, observation in one.turns))]
    calls = [action for one in shown for action, _ in one.turns[:-1]]
    tokenizer = _tokenizer(names, texts, _marks(env), calls)
    env.close()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(seed, "weights"))
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden,
                intermediate_size=2 * config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                max_position_embeddings=config.context_length,
                tie_word_embeddings=False,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    with torch.no_grad():
        # Untied, but equal at first: copying a token then needs no learned map from one to the other.
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
        model.model.norm.weight.fill_(5.0)
    return model, tokenizer


def cold_start(
    make_env: MakeEnv,
    model: Any,
    tokenizer: Any,
    renderer: TextRenderer,
    config: ColdStartConfig,
    *,
    seed: int,
    report: Report,
    device: torch.device = torch.device("cpu"),
) -> None:
    """Teaches the model in place.

    Args:
        make_env: training environments.
        model: from `build`.
        tokenizer: from `build`.
        renderer: as in training.
        config: see `ColdStartConfig`.
        seed: of all lessons.
        report: called with the progress.
        device: where it learns; afterwards the model is moved back.
    """
    env = make_env()
    names = np.array(name_ids(tokenizer, demonstrator(env).lexicon()))
    links = link_ids(tokenizer)
    read = np.array([*names, *links])
    env.close()

    def taught(part: str, *, perfect: bool) -> list[Lesson]:
        told = _told(report, f"episodes for {part}")
        shown = demonstrations(make_env, config.lessons, seed=seeds.derive(seed, part), perfect=perfect, told=told)
        return [lesson(one, renderer) for one in shown]

    perfect, habitual = taught("drills", perfect=True), taught("habits", perfect=False)
    rng = seeds.generator(seed, "cold start")

    def drawn(count: int) -> list[Lesson]:
        return [renamed(perfect[i], names, rng, len(tokenizer)) for i in rng.integers(len(perfect), size=count)]

    def scored(one: Lesson) -> NDArray[np.bool_]:
        return reading_only(one, read) | repeated_in_results(one, read) if links else reading_only(one, read)

    def drills() -> Scored:
        lessons = drawn(config.batch)
        return pad_lessons(lessons, [scored(one) for one in lessons])

    def imitation() -> Scored:
        shown = [habitual[i] for i in rng.integers(len(habitual), size=config.demonstrations)]
        exercises = drawn(2 * config.batch - config.demonstrations)
        return pad_lessons([*shown, *exercises], [*(one.action for one in shown), *map(but_decisions, exercises)])

    def echo() -> Scored:
        return echoes(names, config.batch, 48, rng)

    before = model.device
    model.to(device)
    _train(model, "echoes", config.echo_steps, config.echo_rate, echo, report)
    _train(model, "drills", config.drill_steps, config.drill_rate, drills, report, enough=config.drill_accuracy)
    _train(model, "imitation", config.imitation_steps, config.imitation_rate, imitation, report)
    model.to(before)


def _told(report: Report, phase: str) -> Callable[[int, int], None]:
    return lambda done, total: report(phase, done, total, None)


def _train(
    model: Any,
    phase: str,
    steps: int,
    peak_rate: float,
    draw: Callable[[], Scored],
    report: Report,
    *,
    enough: float | None = None,
) -> None:
    """Minimises the cross-entropy of the scored tokens, N of them in a step, with AdamW.

    The learning rate falls to a tenth along a cosine over all steps. With `enough`, it first stays at its peak until the
    running accuracy reaches `enough`, then falls over a quarter of the steps: a skill appears suddenly, at a step that
    depends on the seed, and a falling rate would prevent it.
    """
    config = LearnerConfig(learning_rate=peak_rate, weight_decay=0.01)
    learner = SupervisedLearner(model, config, device=model.device, betas=(0.9, 0.98))
    falling = steps if enough is None else max(1, steps // 4)
    turn = 0 if enough is None else steps - falling
    step, running = 0, 0.0
    while step < turn + falling:
        if enough is not None and step < turn and running >= enough:
            turn = step
        progress = max(0, step - turn) / falling
        rate = peak_rate * min(1.0, (step + 1) / 20) * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
        tokens_BT, mask_BT = (torch.from_numpy(array).to(model.device) for array in draw())
        exercise = Exercise.padded(tokens_BT, mask_BT)
        accuracy = learner.teach([exercise], float(len(exercise.target_U)), rate)["accuracy"]
        running += 0.1 * (accuracy - running)
        step += 1
        report(phase, step, turn + falling, accuracy)


def _tokenizer(names: list[str], texts: list[str], marks: list[str], calls: list[str]) -> Any:
    """Returns the tokenizer; a phrase around the names in calls, or one that pages are laid out with, is one token."""
    pages = [text for text in texts if all(mark in text for mark in LINK_MARKS)]
    marks = [*marks, *(LINK_MARKS if pages else ())]
    tokenizer = build_tokenizer(names, texts, marks)
    known = name_ids(tokenizer, names)
    phrases = phrases_between(tokenizer, {*known, *tokenizer.convert_tokens_to_ids(marks)}, calls)
    phrases += layout(tokenizer, known, pages)
    return build_tokenizer(names, texts, marks, phrases) if phrases else tokenizer


def _marks(env: Any) -> list[str]:
    """Returns the tags of the environment's dialect, each to become one token."""
    names = [spec.name for spec in env.get_wrapper_attr("tool_specs")]
    return [f"<{slash}{name}>" for name in (*names, "answer", "think", "result") for slash in ("", "/")]
