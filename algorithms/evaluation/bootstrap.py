"""Intervals of means by resampling questions: all values of one question stay together, and groups keep their sizes.

Source: B. Efron (1979), Annals of Statistics 7, p. 1: the percentile bootstrap, here of clusters within strata.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .intervals import mean_interval

Values = Mapping[str, Sequence[float]]
"""The values of one measure by question."""
RESAMPLES = 2000
_BLOCK = 1 << 21
"""Counts that are held at once."""


def bootstrap_intervals(
    measures: Mapping[str, Values], strata: Mapping[str, str] | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """Returns a 95% interval of the mean over all values of each measure.

    Questions are drawn with replacement, the same ones for all measures. Where every question has the same mean, or there is
    only one, no draw differs from the data and resampling says nothing: then it is `mean_interval` of one mean per question,
    as wide as if a question's values always agreed. So it is for a measure of zeros and ones with one value per question:
    Wilson's interval is right near the ends, too.

    Args:
        measures: by name, the values of each question; a question may have none.
        strata: the group of each question, from which as many are drawn as it has; without it, all are one group.
        seed: of the draws.
        resamples: how many draws.

    Raises:
        ValueError: a measure has no value at all.

    >>> values = {"one": [1.0, 1.0], "two": [0.0, 1.0], "three": [0.0, 0.0]}
    >>> bootstrap_intervals({"success": values})
    {'success': (0.0, 1.0)}
    """
    found = percentiles(measures, strata, seed=seed, resamples=resamples)
    for name, values in measures.items():
        answered = [own for own in values.values() if len(own)]
        means = [float(np.mean(own)) for own in answered]
        are_single = all(len(own) == 1 and own[0] in (0.0, 1.0) for own in answered)
        if are_single or math.isclose(min(means), max(means), abs_tol=1e-12):
            found[name] = mean_interval(means, [value for own in answered for value in own])
    return found


def percentiles(
    measures: Mapping[str, Values], strata: Mapping[str, str] | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """Returns the middle 95% of the means of resampled questions, as `bootstrap_intervals` does where they differ.

    Args:
        measures: see there, as for the rest.
        strata: the group of each question.
        seed: of the draws.
        resamples: how many draws.

    Raises:
        ValueError: a measure has no value at all.
    """
    if empty := [name for name, values in measures.items() if not any(len(own) for own in values.values())]:
        raise ValueError(f"There is no value of {empty[0]!r}: an interval needs at least one.")
    questions = sorted({question for values in measures.values() for question in values})
    sums = {name: np.array([np.sum(values.get(q, ())) for q in questions]) for name, values in measures.items()}
    counts = {name: np.array([len(values.get(q, ())) for q in questions]) for name, values in measures.items()}
    means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in measures}
    for drawn_MU in _draws([(strata or {}).get(question, "") for question in questions], seed, resamples):
        for name, found in means.items():
            sum_M, count_M = drawn_MU @ sums[name], drawn_MU @ counts[name]
            found.append(sum_M[count_M > 0] / count_M[count_M > 0])  # a draw without a value says nothing
    ends = {name: np.percentile(np.concatenate(found), [2.5, 97.5]) for name, found in means.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _draws(groups: Sequence[str], seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yields how often each question is drawn, [resamples, questions], a block at a time."""
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))]
    block = max(1, _BLOCK // len(groups))
    for start in range(0, resamples, block):
        drawn_MU = np.zeros((min(block, resamples - start), len(groups)), np.int64)
        for own in places:
            drawn_MU[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=len(drawn_MU))
        yield drawn_MU
