"""How far several arms are below or above a first one, from runs that are paired by task and seed."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

from .holm import holm
from .interquartile import interquartile_interval, interquartile_mean
from .paired import sign_flip

Runs = Mapping[tuple[str, Hashable], float]
"""The value of each run of an arm by task and seed."""


@dataclass(frozen=True)
class Contrast:
    """A first arm less another one.

    Args:
        first: name of the first arm.
        other: name of the other one.
        difference: interquartile mean of the differences between runs of the same task and seed.
        low: lower end of its 95% interval.
        high: upper end.
        p: the probability of differences at least as large in either direction if there were none, by sign flips.
        adjusted: p after Holm, over all arms.
        pairs: of runs.
    """

    first: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    pairs: int


def contrasts(arms: Mapping[str, Runs], *, seed: int = 0) -> list[Contrast]:
    """Returns the first arm less each of the others.

    Args:
        arms: by name; the first one is compared with the others. All have the same tasks and seeds.
        seed: of the draws.

    Raises:
        ValueError: the arms have different runs, or none.

    >>> one, other = {("task", seed): 0.5 for seed in range(6)}, {("task", seed): 0.25 for seed in range(6)}
    >>> found = contrasts({"arpo": one, "grpo": other})[0]
    >>> found.difference, found.low, found.high, found.adjusted
    (0.25, 0.25, 0.25, 0.03125)
    """
    (first, own), *others = arms.items()
    if not own or any(set(runs) != set(own) for _, runs in others):
        raise ValueError("Arms are compared on the same tasks and seeds, and on at least one.")
    found = []
    for name, runs in others:
        strata: dict[str, list[float]] = {}
        for task, one in sorted(own, key=str):
            strata.setdefault(task, []).append(own[task, one] - runs[task, one])
        every = [value for values in strata.values() for value in values]
        low, high = interquartile_interval([*strata.values()], seed=seed)
        p, middle = sign_flip(every, seed=seed), float(interquartile_mean(every))
        found.append(Contrast(first, name, middle, float(low), float(high), p, p, len(every)))
    adjusted = holm([one.p for one in found])
    return [replace(one, adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def pairs_needed(comparisons: int, level: float = 0.05) -> int:
    """Returns how many pairs of runs it takes to show any difference: with fewer, no p after Holm reaches the level.

    Sign flips of n pairs give at least 2 / 2ⁿ.

    >>> pairs_needed(1), pairs_needed(2), pairs_needed(3)
    (6, 7, 7)
    """
    return 1 + math.ceil(math.log2(comparisons / level))
