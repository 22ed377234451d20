"""Held-out evaluation: the training loop's own rollouts, limits and stops, without branching."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..branching.none import NoBranching
from ..metrics import by_env, summarise
from ..policies import Policy
from ..rendering.renderer import Renderer
from ..rollout import Failures, Limits, MakeEnv, Start, collect
from ..tree import RolloutTree


@dataclass(frozen=True)
class Evaluation:
    """What a policy reached.

    Args:
        success: share of right answers; paths that failed through no fault of the model are left out.
        interval: 95% Wilson interval of it.
        metrics: as `summarise`.
        trees: one per question and sample.
    """

    success: float
    interval: tuple[float, float]
    metrics: dict[str, float]
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
        failures: reports and counts what fails; see `collect`.

    Raises:
        ConfigError: the parts do not fit together.
        RolloutError: every single path failed; see `collect`.
    """
    limits = replace(limits, temperature=temperature)
    plan = _Chains(samples)
    trees = await collect(make_env, starts, policy, renderer, plan, seed=seed, step=-1, limits=limits, failures=failures)
    return replace(_judged(trees), by_env={env: _judged(own) for env, own in by_env(trees).items()})


def _judged(trees: list[RolloutTree]) -> Evaluation:
    ends = [tree.nodes[leaf] for tree in trees for leaf in tree.leaves()]
    right = [end.success or 0.0 for end in ends if end.status is not None and end.status.is_model]
    return Evaluation(
        success=sum(right) / len(right) if right else 0.0,
        interval=wilson(sum(right), len(right)),
        metrics=summarise(trees),
        trees=trees,
    )


def wilson(successes: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the Wilson score interval of a proportion.

    Source: E. B. Wilson (1927), JASA 22, p. 209.

    >>> tuple(round(x, 3) for x in wilson(8, 10))
    (0.49, 0.943)
    """
    if trials == 0:
        return (0.0, 1.0)
    p, square = successes / trials, z * z / trials
    centre, half = p + square / 2, z * math.sqrt(p * (1 - p) / trials + square / trials / 4)
    return (max(0.0, (centre - half) / (1 + square)), min(1.0, (centre + half) / (1 + square)))
