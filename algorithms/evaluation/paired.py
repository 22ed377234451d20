"""Two evaluations of the same questions: the difference with its interval, and a test of whether there is any.

Pairing removes what makes questions easy or hard, so that it sees differences that two separate intervals hide.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .bootstrap import RESAMPLES, percentiles
from .intervals import wilson

_ENUMERATED = 16
"""Differences whose signs are flipped in all ways; of more, a sample is drawn."""
_FLIPS = 20_000
_BLOCK = 1 << 20
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """How far one evaluation is above another.

    Args:
        mean: over the questions.
        low: lower end of its 95% interval.
        high: upper end.
        p: the probability of a difference at least as large in either direction if there were none.
        test: that gave it.
        questions: that both answered.
        better: of these, on which the first is above the other.
        worse: on which it is below.
    """

    mean: float
    low: float
    high: float
    p: float
    test: Literal["mcnemar", "sign_flip"]
    questions: int
    better: int
    worse: int


def paired_difference(
    one: Mapping[str, Sequence[float]],
    other: Mapping[str, Sequence[float]],
    strata: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Returns the mean difference over the questions, each of which counts once, with its mean over its own values.

    The test is McNemar's where each question has one value of 0 or 1 on either side, otherwise a permutation of signs.

    Args:
        one: values of each question in the first evaluation, in [0, 1].
        other: in the second; the same questions. One without values on either side is left out.
        strata: the group of each question; see `bootstrap_intervals`.
        seed: of the draws.
        resamples: how many questions are drawn for the interval.

    Raises:
        ValueError: the questions differ, or none has values on both sides.

    >>> one, other = {"a": [1.0], "b": [1.0], "c": [0.0]}, {"a": [0.0], "b": [1.0], "c": [0.0]}
    >>> found = paired_difference(one, other)
    >>> round(found.mean, 3), found.p, found.test, found.better, found.worse
    (0.333, 1.0, 'mcnemar', 1, 0)
    """
    if set(one) != set(other):
        raise ValueError("Paired evaluations need the same questions on both sides.")
    both = sorted(question for question in one if len(one[question]) and len(other[question]))
    if not both:
        raise ValueError("No question has values on both sides.")
    apart = {question: float(np.mean(one[question]) - np.mean(other[question])) for question in both}
    better, worse = (sum(sign * value > _ROUNDING for value in apart.values()) for sign in (1, -1))
    are_single = all(len(side[q]) == 1 and side[q][0] in (0.0, 1.0) for side in (one, other) for q in both)
    low, high = _interval(apart, strata, seed=seed, resamples=resamples)
    p = mcnemar(better, worse) if are_single else sign_flip([*apart.values()], seed=seed)
    test: Literal["mcnemar", "sign_flip"] = "mcnemar" if are_single else "sign_flip"
    return Difference(math.fsum(apart.values()) / len(both), low, high, p, test, len(both), better, worse)


def _interval(apart: Mapping[str, float], strata: Mapping[str, str] | None, **draws: int) -> tuple[float, float]:
    """Returns the interval of a mean difference; Wilson's, of its size, if every question has the same."""
    low, high = min(apart.values()), max(apart.values())
    if high - low > _ROUNDING:
        wrapped = {question: [value] for question, value in apart.items()}
        return percentiles({"difference": wrapped}, strata, **draws)["difference"]
    least, most = wilson(abs(low) * len(apart), len(apart))
    if abs(low) <= _ROUNDING:
        return -most, most
    return (least, most) if low > 0 else (-most, -least)


def mcnemar(better: int, worse: int) -> float:
    """Returns the exact two-sided p of McNemar's test: the binomial one over the questions on which two sides differ.

    Args:
        better: questions that only the first answered right.
        worse: questions that only the second answered right.

    Source: Q. McNemar (1947), Psychometrika 12, p. 153, in its exact form.

    >>> mcnemar(5, 0), mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 0.0625, 1.0)
    """
    tail = sum(math.comb(better + worse, k) for k in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / (1 << (better + worse)))


def sign_flip(differences: Sequence[float], *, seed: int = 0, flips: int = _FLIPS) -> float:
    """Returns the two-sided p of a permutation test: how often the sum is as far from 0 if each sign were the flip of a coin.

    Up to 16 differences other than 0, all flips are tried and p is exact; of more, `flips` are drawn, and the observed signs
    count as one of them, so that p is never 0.

    Args:
        differences: one per question.
        seed: of the flips.
        flips: how many are drawn.

    Source: R. A. Fisher (1935), The Design of Experiments, section 21.

    >>> sign_flip([0.5, 0.25, 1.0]), sign_flip([0.0, 0.0])
    (0.25, 1.0)
    """
    sizes_I = np.abs([value for value in differences if abs(value) > _ROUNDING])
    if not len(sizes_I):
        return 1.0
    bound = abs(math.fsum(differences)) - _ROUNDING * math.fsum(sizes_I)
    if len(sizes_I) <= _ENUMERATED:
        sums_M = np.zeros(1)
        for size in sizes_I:
            sums_M = np.concatenate([sums_M - size, sums_M + size])
        return float(np.mean(np.abs(sums_M) >= bound))
    as_far = sum(int(np.count_nonzero(np.abs(sums_M) >= bound)) for sums_M in _flipped(sizes_I, seed, flips))
    return (1 + as_far) / (1 + flips)


def _flipped(sizes_I: NDArray[np.float64], seed: int, flips: int) -> Iterator[NDArray[np.float64]]:
    """Yields sums with signs drawn at random, a block at a time."""
    rng, block = np.random.default_rng(seed), max(1, _BLOCK // len(sizes_I))
    for start in range(0, flips, block):
        signs_MI = rng.integers(0, 2, size=(min(block, flips - start), len(sizes_I)), dtype=np.int8) * 2 - 1
        yield signs_MI @ sizes_I
