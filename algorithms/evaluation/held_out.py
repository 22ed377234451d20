"""Held-out evaluation: the training loop's own rollouts, limits and stops, without branching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..branching.none import NoBranching
from ..metrics import by_env, measures, summarise
from ..policies import Policy
from ..rendering.renderer import Renderer
from ..rollout import Collected, Collector, Failures, Limits, MakeEnv, Start, try_collect
from ..tree import RolloutTree
from .intervals import mean_interval, wilson


@dataclass(frozen=True)
class Evaluation:
    """What a policy reached.

    Args:
        success: share of right answers; paths that failed through no fault of the model are left out.
        interval: 95% Wilson interval of it.
        metrics: as `summarise`; what environments measure is called "env/NAME" there.
        intervals: 95% intervals of what environments measure, by the same names.
        trees: one per question and sample.
    """

    success: float
    interval: tuple[float, float]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    trees: list[RolloutTree] = field(repr=False)
    by_env: "Mapping[str, Evaluation]" = field(default_factory=dict)
    """The same of each environment of a mixture, by id; empty if it is none."""


@dataclass(frozen=True)
class _Chains:
    """Independent rollouts."""

    rollouts: int
    branching: NoBranching = NoBranching()


async def evaluate(
    make_env: MakeEnv,
    starts: Sequence[Start],
    policy: Policy,
    renderer: Renderer,
    *,
    seed: int,
    limits: Limits = Limits(),
    temperature: float = 1.0,
    samples: int = 1,
    failures: Failures | None = None,
    collect: Collector = try_collect,
) -> Evaluation:
    """Answers every question `samples` times.

    Args:
        make_env: held-out environments.
        starts: P questions.
        policy: draws the actions.
        renderer: as in training.
        seed: of the draws; with the same seed, draws are comparable before and after training.
        limits: as in training; its temperature is replaced.
        temperature: 0 for greedy.
        samples: rollouts per question.
        failures: reports and counts what fails; see `rollout.collect`.
        collect: grows the trees: in this process, or in others.

    Raises:
        ConfigError: the parts do not fit together.
        RolloutError: every single path failed; see `rollout.collect`.
    """
    told: dict[str, Any] = {"limits": limits, "temperature": temperature, "samples": samples, "failures": failures}
    told["collect"] = collect
    found = await ask(make_env, starts, policy, renderer, seed=seed, **told)
    if found.error is not None:
        raise found.error
    return replace(_judged(found.trees), by_env={env: _judged(own) for env, own in by_env(found.trees).items()})


async def ask(
    make_env: MakeEnv,
    starts: Sequence[Start],
    policy: Policy,
    renderer: Renderer,
    *,
    seed: int,
    first: int = 0,
    limits: Limits = Limits(),
    temperature: float = 1.0,
    samples: int = 1,
    failures: Failures | None = None,
    collect: Collector = try_collect,
) -> Collected:
    """Answers questions that may be a part of an evaluation, and returns the trees even if every path failed.

    Args:
        make_env: see `evaluate`, as for the rest.
        starts: P questions.
        policy: draws the actions.
        renderer: as in training.
        seed: of the draws, each of which is a function of (seed, position of the question, sample).
        first: position of the first question in the whole evaluation.
        limits: as in training; its temperature is replaced.
        temperature: 0 for greedy.
        samples: rollouts per question.
        failures: reports and counts what fails.
        collect: see `evaluate`.

    Raises:
        ConfigError: the parts do not fit together.
    """
    limits, plan = replace(limits, temperature=temperature), _Chains(samples)
    told: dict[str, Any] = {"seed": seed, "step": -1, "first": first, "limits": limits, "failures": failures}
    return await collect(make_env, starts, policy, renderer, plan, **told)


def _judged(trees: list[RolloutTree]) -> Evaluation:
    ends = [tree.nodes[leaf] for tree in trees for leaf in tree.leaves()]
    right = [end.success or 0.0 for end in ends if end.status is not None and end.status.is_model]
    return Evaluation(
        success=sum(right) / len(right) if right else 0.0,
        interval=wilson(sum(right), len(right)),
        metrics=summarise(trees),
        intervals={f"env/{name}": mean_interval(values) for name, values in measures(trees).items()},
        trees=trees,
    )
