"""The interquartile mean of few runs: it does not hang on the best or the worst of them, and wastes less than the median.

Source: R. Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv 2108.13264.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .student import expanded_tail

RESAMPLES = 20_000


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Returns the mean of the middle half along the last axis: without the lowest and the highest quarter, rounded down.

    Args:
        values: at least one along the last axis; of fewer than four, all count.

    >>> float(interquartile_mean([0.0, 1.0, 2.0, 3.0, 100.0])), float(interquartile_mean([1.0, 2.0, 6.0]))
    (2.0, 3.0)
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    left_out = ordered.shape[-1] // 4
    return np.asarray(ordered[..., left_out : ordered.shape[-1] - left_out].mean(axis=-1))


def interquartile_interval(strata: Sequence[ArrayLike], *, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Returns a 95% interval of the interquartile mean of all runs, by resampling the runs of each stratum by themselves.

    Percentiles of few runs are too narrow: they are taken further out, as Student's t and the divisor n − 1 would ask; see
    `expanded_tail`. An interval never leaves the range of what resampling can give, so it is still too narrow with fewer than
    five runs per stratum.

    Args:
        strata: of each, its runs along the last axis, [..., runs]; the axes before it are the same for all, and the same runs
            are drawn for each of their entries.
        seed: of the draws.
        resamples: how many draws.

    Returns:
        [2, ...]: lower and upper end; both infinite where a stratum has a single run.

    Raises:
        ValueError: a stratum is empty, or there is none.

    >>> [round(float(end), 2) for end in interquartile_interval([[0.1, 0.2, 0.3, 0.4, 0.5]])]
    [0.1, 0.5]
    """
    runs = [np.asarray(own, np.float64) for own in strata]
    fewest = min((own.shape[-1] for own in runs), default=0)
    if fewest == 0:
        raise ValueError("An interval needs at least one run per stratum.")
    if fewest == 1:
        ends = np.full(runs[0].shape[:-1], np.inf)
        return np.stack([-ends, ends])
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(own.shape[-1], size=(resamples, own.shape[-1])) for own in runs]
    entries = [own.reshape(-1, own.shape[-1]) for own in runs]
    tail = expanded_tail(fewest, sum(own.shape[-1] - 1 for own in runs))
    found = []
    for row in zip(*entries, strict=True):  # one at a time: all draws of all entries at once may not fit into memory
        means = interquartile_mean(np.concatenate([own[chosen] for own, chosen in zip(row, drawn, strict=True)], axis=-1))
        found.append(np.quantile(means, [tail, 1 - tail]))
    return np.stack(found, axis=-1).reshape(2, *runs[0].shape[:-1])
