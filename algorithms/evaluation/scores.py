"""What a set of answers comes to: pass@k, averages and costs, each with its interval over questions."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .attempts import Attempt
from .bootstrap import Values, bootstrap_intervals
from .pass_at_k import pass_at_k

COSTS: Mapping[str, Callable[[Attempt], float]] = {
    "tool_calls_per_rollout": lambda one: one.tool_calls,
    "turns_per_rollout": lambda one: one.turns,
    "sampled_tokens_per_rollout": lambda one: one.tokens,
    "malformed_calls_per_rollout": lambda one: one.malformed,
    "truncated": lambda one: one.truncated,
}
"""What an answer costs, by name."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval.

    Args:
        mean: of all values.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def estimates(attempts: Sequence[Attempt], *, seed: int = 0) -> dict[str, Estimate]:
    """Returns the mean of everything that was measured, with its interval over questions.

    Answers that failed through no fault of the model are left out; a question with fewer than k others has no part in pass@k.
    With several answers per question there are "avg@N" and "pass@1" to "pass@N", where each question counts once; an answer is
    right for pass@k if its success is 1.

    Args:
        attempts: to any questions; N is the largest number of answers to one of them.
        seed: of the intervals.
    """
    measures = values_of(attempts)
    if not measures:
        return {}
    intervals = bootstrap_intervals(measures, strata_of(attempts), seed=seed)
    found = {}
    for name, (low, high) in intervals.items():
        values = [value for own in measures[name].values() for value in own]
        found[name] = Estimate(math.fsum(values) / len(values), low, high)
    return found


def values_of(attempts: Sequence[Attempt]) -> dict[str, Values]:
    """Returns the values of each measure that has any, by question.

    An id that was asked several times is one question, whose values stay together.

    Args:
        attempts: as for `estimates`.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    asked: dict[int, list[Attempt]] = defaultdict(list)
    for one in filter(lambda one: one.counts, attempts):
        asked[one.question].append(one)
        for name, value in _values(one).items():
            found[name][one.key].append(value)
    most = max((one.sample + 1 for one in attempts), default=0)
    for own in asked.values() if most > 1 else ():
        key, values = own[0].key, [one.success or 0.0 for one in own]
        found[f"avg@{most}"][key].append(math.fsum(values) / len(values))
        for k in range(1, len(own) + 1):
            found[f"pass@{k}"][key].append(pass_at_k(len(own), values.count(1.0), k))
    return {name: dict(values) for name, values in found.items()}


def _values(one: Attempt) -> dict[str, float]:
    """Returns what is measured of a single answer."""
    return {
        "success": one.success or 0.0,
        "reward": one.reward or 0.0,
        **one.scores,
        **{name: float(cost(one)) for name, cost in COSTS.items()},
        **{f"env/{name}": value for name, value in sorted(one.measures.items())},
    }


def strata_of(attempts: Sequence[Attempt]) -> dict[str, str]:
    """Returns the environment of each question of a mixture: each keeps its number of questions when they are resampled."""
    return {one.key: one.env for one in attempts}
