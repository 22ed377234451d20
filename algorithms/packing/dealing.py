"""Which rank computes which tree, so that all of them finish together."""

import heapq
from collections.abc import Sequence


def deal(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Returns the trees of each rank, in their order: the most expensive one left goes to the rank with the least to do.

    A function of its arguments alone, so every rank finds the same without asking the others.

    Args:
        costs: of each tree, in any unit; a tree that costs nothing is nobody's.
        ranks: how many there are; with fewer trees than ranks, some get none.

    Raises:
        ValueError: there are no ranks, or a cost is negative or not finite.

    Source: Graham, Bounds on Multiprocessing Timing Anomalies (1969), longest processing time first. The busiest rank has at
    most one tree more to do than any other.

    >>> deal([3.0, 5.0, 0.0, 4.0, 4.0], 2)
    [[0, 1], [3, 4]]
    """
    if ranks < 1:
        raise ValueError(f"Trees are dealt to at least one rank, got {ranks}.")
    if not all(0.0 <= cost < float("inf") for cost in costs):
        raise ValueError(f"Costs must be at least 0 and finite, got {list(costs)}.")
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    least = [(0.0, rank) for rank in range(ranks)]
    for tree in sorted(range(len(costs)), key=lambda tree: (-costs[tree], tree)):
        if costs[tree] > 0.0:
            load, rank = heapq.heappop(least)
            dealt[rank].append(tree)
            heapq.heappush(least, (load + costs[tree], rank))
    return [sorted(trees) for trees in dealt]
