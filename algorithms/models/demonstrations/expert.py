"""An environment's scripted expert, played through the environment itself."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from arpo_envs import ConfigError, Demonstrable, Dialect, ToolSpec, members

from ... import seeds
from ...rollout import MakeEnv, TextEnv

_TRIES = 8
"""Episodes played for each worked example that is wanted: two may be about the same question."""


@dataclass(frozen=True)
class Demonstration:
    """One episode as text.

    Args:
        instructions: of the environment.
        question: of the task.
        turns: what the demonstrator wrote and what it saw next; "" after the last action.
        tools: what a prompt offers, for chat templates that write it themselves.
        examples: episodes that are shown before the question.
    """

    instructions: str
    question: str
    turns: tuple[tuple[str, str], ...]
    tools: tuple[ToolSpec, ...] = ()
    examples: Sequence[Sequence[str]] = ()


def demonstrator(env: TextEnv) -> Demonstrable:
    """Returns the environment's task source, if it can demonstrate.

    Raises:
        ConfigError: it cannot.
    """
    source = _source(env)
    if not isinstance(source, Demonstrable):
        raise ConfigError(
            f"The embedded policy cannot be cold-started here: {type(source).__name__} has no demonstrator. "
            "Choose another policy with --policy."
        )
    return source


def has_demonstrator(make_env: MakeEnv) -> bool:
    """Whether an environment's tasks can be demonstrated."""
    env = make_env()
    able = isinstance(_source(env), Demonstrable)
    env.close()
    return able


def _source(env: TextEnv) -> object:
    tasks = members.TASKS.through(env)
    return env.unwrapped if tasks is None else tasks


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
        shown.append(_played(env, source, seeds.generator(seed, "demonstration", episode), perfect=perfect)[0])
        told(episode + 1, count)
    env.close()
    return shown


def worked_examples(make_env: MakeEnv, count: int) -> list[tuple[str, ...]]:
    """Returns episodes of a demonstrator as a policy would see them, about different questions and all of them right.

    They are the same whenever and wherever they are asked for.

    Args:
        make_env: its tasks are `Demonstrable`.
        count: how many; fewer if there are not so many questions.

    Returns:
        For each, the question, and then by turns what was written and what came back.

    Raises:
        ConfigError: the environment's tasks cannot be demonstrated, or no demonstration is right.
    """
    env, found = make_env(), dict[str, tuple[str, ...]]()
    try:
        source = demonstrator(env)
        for episode in range(_TRIES * count):
            if len(found) == count:
                break
            shown, success = _played(env, source, seeds.generator(0, "worked example", episode), perfect=True)
            if success == 1.0:
                texts = (shown.question, *(text for turn in shown.turns for text in turn))
                found.setdefault(shown.question, texts[:-1])  # nothing comes after the answer
    finally:
        env.close()
    if not found:
        raise ConfigError(f"None of {_TRIES * count} demonstrations of {env} is right. Leave out the examples.")
    return [*found.values()]


def _played(
    env: TextEnv, source: Demonstrable, rng: np.random.Generator, *, perfect: bool
) -> tuple[Demonstration, float | None]:
    """Returns an episode, and whether its answer was right."""
    question, info = env.reset(seed=int(rng.integers(2**31)))
    dialect = env.get_wrapper_attr("dialect")  # of this episode, like the tools: those of a mixture differ
    specs = {spec.name: spec for spec in env.get_wrapper_attr("tool_specs")}
    turns = []
    for move, content in source.demonstrate(env.get_wrapper_attr("task"), rng, perfect=perfect):
        action = _written(dialect, specs.get(move), content)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        turns.append((action, "" if over else observation))
        if over:
            break
    told, examples = env.get_wrapper_attr("instructions"), members.EXAMPLES.through(env)
    return Demonstration(told, question, tuple(turns), tuple(specs.values()), examples), info.get("success")


def _written(dialect: Dialect, spec: ToolSpec | None, content: str) -> str:
    """Returns a move as an action: an answer, or a call whose content is its single text, or its arguments as JSON."""
    if spec is None:
        return dialect.answer(content)
    return dialect.call(spec.name, json.loads(content) if spec.text_parameter is None else {spec.text_parameter: content})
