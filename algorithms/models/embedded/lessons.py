"""What the embedded policy learns from: demonstrations run through the environment, and drills made from them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arpo_envs import ConfigError, Demonstrable, Dialect, ToolSpec, members

from ... import seeds
from ...rendering.text import TextRenderer
from ...rollout import MakeEnv, TextEnv

Ids = NDArray[np.int64]

_UNLIMITED = 1 << 30


@dataclass(frozen=True)
class Demonstration:
    """One episode as text.

    Args:
        instructions: of the environment.
        question: of the task.
        turns: what the demonstrator wrote and what it saw next; "" after the last action.
    """

    instructions: str
    question: str
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Lesson:
    """One episode as tokens.

    Args:
        tokens: [T] ids.
        action: [T], True where the demonstrator wrote the token.
    """

    tokens: Ids
    action: NDArray[np.bool_]


def demonstrator(env: TextEnv) -> Demonstrable:
    """Returns the environment's task source, if it can demonstrate.

    Raises:
        ConfigError: it cannot.
    """
    tasks = members.TASKS.through(env)
    source = env.unwrapped if tasks is None else tasks
    if not isinstance(source, Demonstrable):
        raise ConfigError(
            f"The embedded policy cannot be cold-started here: {type(source).__name__} has no demonstrator. "
            "Choose another policy with --policy."
        )
    return source


def demonstrations(
    make_env: MakeEnv, count: int, *, seed: int, perfect: bool = False, told: Callable[[int, int], None] = lambda done, of: None
) -> list[Demonstration]:
    """Runs a demonstrator through the environment.

    Args:
        make_env: its tasks are `Demonstrable`.
        count: episodes.
        seed: of tasks and demonstrator.
        perfect: without bad habits.
        told: called with the number of episodes done and the total; tools may take time.

    Raises:
        ConfigError: the environment's tasks cannot be demonstrated.
    """
    env = make_env()
    source = demonstrator(env)
    shown = []
    for episode in range(count):
        rng = seeds.generator(seed, "demonstration", episode)
        question, _ = env.reset(seed=int(rng.integers(2**31)))
        dialect = env.get_wrapper_attr("dialect")  # of this episode, like the tools: those of a mixture differ
        specs = {spec.name: spec for spec in env.get_wrapper_attr("tool_specs")}
        turns = []
        for move, content in source.demonstrate(env.get_wrapper_attr("task"), rng, perfect=perfect):
            action = _written(dialect, specs.get(move), content)
            observation, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            turns.append((action, "" if over else observation))
            if over:
                break
        shown.append(Demonstration(env.get_wrapper_attr("instructions"), question, tuple(turns)))
        told(episode + 1, count)
    env.close()
    return shown


def _written(dialect: Dialect, spec: ToolSpec | None, content: str) -> str:
    """Returns a move as an action: an answer, or a call whose content is its single text, or its arguments as JSON."""
    if spec is None:
        return dialect.answer(content)
    return dialect.call(spec.name, json.loads(content) if spec.text_parameter is None else {spec.text_parameter: content})


def lesson(shown: Demonstration, renderer: TextRenderer) -> Lesson:
    """Returns a demonstration as the tokens a policy would have seen and written."""
    tokens = list(renderer.start(shown.instructions, shown.question, ()))
    mask = [False] * len(tokens)
    for action, observation in shown.turns:
        written = renderer.tokenizer.encode(action, add_special_tokens=False)
        seen = renderer.observation(observation, _UNLIMITED).tokens
        tokens += [*written, *seen]
        mask += [True] * len(written) + [False] * len(seen)
    return Lesson(np.array(tokens, dtype=np.int64), np.array(mask))


def renamed(taught: Lesson, names: Ids, rng: np.random.Generator, vocabulary_size: int) -> Lesson:
    """Returns the lesson with every name replaced by a random one, the same throughout the lesson.

    What is left is the skill: where to copy from. The names no longer carry facts, so names from
    held-out questions may be used too.
    """
    mapping = np.arange(vocabulary_size)
    mapping[names] = rng.permutation(names)
    return Lesson(mapping[taught.tokens], taught.action)


def reading_only(taught: Lesson, read: Ids) -> NDArray[np.bool_]:
    """Returns [T], True where the demonstrator wrote one of these tokens, which it read somewhere; deciding does not count."""
    mask: NDArray[np.bool_] = taught.action & np.isin(taught.tokens, read)
    return mask


def but_decisions(taught: Lesson) -> NDArray[np.bool_]:
    """Returns [T], True for all of an action except its first token, which decides what kind of action it is.

    The last action counts in full: answering once everything has been looked up is a skill. A policy that is unsure of it
    learns to search on and on when searching once more is rewarded.
    """
    mask: NDArray[np.bool_] = taught.action & np.roll(taught.action, 1)
    starts = np.flatnonzero(taught.action & ~np.roll(taught.action, 1))
    mask[starts[-1:]] = True
    return mask


def echoes(names: Ids, count: int, length: int, rng: np.random.Generator) -> tuple[Ids, NDArray[np.bool_]]:
    """Returns sequences that repeat themselves with a random period, which teaches a transformer to copy.

    A fixed period would be solved by position and teach nothing.

    Args:
        names: ids to draw from; all of them must occur, or held-out names cannot be copied later.
        count: B sequences.
        length: T tokens each.
        rng: the only source of randomness.

    Returns:
        Tokens [B, T], and a mask [B, T], True where a token repeats an earlier one.
    """
    period_B = rng.integers(2, length // 2 + 1, size=count)
    fresh_BT = rng.choice(names, size=(count, length))
    position_T = np.arange(length)
    tokens_BT = np.take_along_axis(fresh_BT, position_T[None] % period_B[:, None], axis=1)
    return tokens_BT, position_T[None] >= period_B[:, None]


def pad_lessons(lessons: Sequence[Lesson], masks: Sequence[NDArray[np.bool_]]) -> tuple[Ids, NDArray[np.bool_]]:
    """Returns right-padded tokens [B, T] and the mask of scored tokens [B, T]."""
    length = max(len(taught.tokens) for taught in lessons)
    tokens_BT = np.zeros((len(lessons), length), dtype=np.int64)
    mask_BT = np.zeros((len(lessons), length), dtype=np.bool_)
    for line, (taught, mask) in enumerate(zip(lessons, masks, strict=True)):
        tokens_BT[line, : len(taught.tokens)] = taught.tokens
        mask_BT[line, : len(mask)] = mask
    return tokens_BT, mask_BT
