"""Which questions `arpo eval` asks, and in which environment: an environment's own, or those of a benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from arpo_envs import ConfigError
from arpo_envs.tasks.benchmarks import Benchmark, find_benchmark, read_benchmark

from .. import seeds
from ..rollout import Start
from .environments import arguments_of
from .mixtures import env_arguments, weights_in
from .parts import evaluation_starts

USUAL = 300
"""Questions that are asked of an environment's own, which may have any number of them."""


class Asking(Protocol):
    """The options that say what is asked."""

    @property
    def benchmark(self) -> str | None:
        """Name of a benchmark."""
        ...

    @property
    def data(self) -> Path | None:
        """A local copy of it."""
        ...

    @property
    def skip_malformed(self) -> bool:
        """Whether malformed rows are left out."""
        ...

    @property
    def questions(self) -> int | None:
        """How many are asked."""
        ...


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Args:
        starts: one per question.
        options: keyword arguments of the environment, or of the mixture.
        record: what the result says of it.
        malformed: what is wrong with each row of the benchmark that was left out.
    """

    starts: Sequence[Start]
    options: Mapping[str, Any]
    record: Mapping[str, str | int] = field(default_factory=dict)
    malformed: tuple[str, ...] = ()


def chosen(asking: Asking) -> Benchmark | None:
    """Returns the benchmark that is asked, None for an environment's own questions.

    Raises:
        ConfigError: there is none of that name, or an option has no effect without one.
    """
    if asking.benchmark is not None:
        return find_benchmark(asking.benchmark)
    if asking.data is not None or asking.skip_malformed:
        raise ConfigError("--data and --skip-malformed need --benchmark: they say how to read its questions.")
    return None


def asked(asking: Asking, env: str, words: Sequence[str]) -> Asked:
    """Returns the questions that are asked in an environment: without a benchmark, the same ones for every run.

    Args:
        asking: the options.
        env: id of the environment, or a mixture.
        words: its arguments, each NAME=VALUE.

    Raises:
        ConfigError: the benchmark cannot be read, or the environment cannot ask it.
    """
    benchmark, options = chosen(asking), env_arguments(env, words)
    if benchmark is None:
        return Asked(evaluation_starts(asking.questions or USUAL), options)
    if weights_in(env) is not None or "tasks" not in arguments_of(env):
        raise ConfigError(f"{env} takes no tasks, so that it cannot ask {benchmark.title}. Try --env {benchmark.env}.")
    if "tasks" in options:
        raise ConfigError("--benchmark chooses the tasks: leave tasks=… out of --args, or name its file with --data.")
    found = read_benchmark(benchmark, asking.data, skip_malformed=asking.skip_malformed)
    starts = [
        Start(seeds.derive("evaluation", i) % 2**31, {"task": task.id})
        for i, task in enumerate(found.tasks.questions())
        if asking.questions is None or i < asking.questions
    ]
    record: dict[str, str | int] = {"benchmark": benchmark.name, "data": found.tasks.name, "malformed": len(found.malformed)}
    return Asked(starts, options | {"tasks": found.tasks}, record, found.malformed)
