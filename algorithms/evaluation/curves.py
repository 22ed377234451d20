"""Learning curves of runs whose steps cost different amounts, at common points of cost."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def over_cost(
    costs: Sequence[float], values: Sequence[float], edges: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the mean value while a run spent what lies between two edges, for each pair of neighbouring edges.

    A step's value counts for all that the step spends, so that a run with expensive steps and one with cheap ones are averaged
    over the same cost. The mean over all cells, weighted by their widths, is that over all that was spent.

    Args:
        costs: of each step, at least 0.
        values: of each step.
        edges: rising, from at least 0 to at most the sum of all costs.

    Raises:
        ValueError: the lengths differ, a cost is negative, or the edges do not rise or lie outside of what was spent.

    >>> over_cost([10.0, 30.0], [0.0, 1.0], [0.0, 20.0, 40.0]).tolist()
    [0.5, 1.0]
    """
    if len(costs) != len(values) or any(cost < 0 for cost in costs):
        raise ValueError("Each step needs one value and a cost of at least 0.")
    spent = np.concatenate([[0.0], np.cumsum(costs)])
    widths = np.diff(edges)
    if not len(widths) or widths.min() <= 0 or edges[0] < 0 or edges[-1] > spent[-1] * (1 + 1e-12):
        raise ValueError(f"Edges must rise, and lie between 0 and the {spent[-1]:g} that were spent.")
    earned = np.concatenate([[0.0], np.cumsum(np.multiply(costs, values))])
    return np.asarray(np.diff(np.interp(edges, spent, earned)) / widths)
