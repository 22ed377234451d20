"""Trees dealt to ranks: each exactly once, the same everywhere, and no rank with much more to do than another."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.packing.dealing import deal

COSTS = st.lists(st.floats(0.0, 1e6) | st.just(0.0) | st.just(7.0), max_size=40)
RANKS = st.integers(1, 9)


def loads(costs: Sequence[float], ranks: int) -> list[float]:
    return [sum(costs[tree] for tree in trees) for trees in deal(costs, ranks)]


@given(COSTS, RANKS)
def test_every_tree_that_costs_something_is_somebodys_once(costs: list[float], ranks: int) -> None:
    dealt = deal(costs, ranks)
    assert len(dealt) == ranks
    assert sorted(tree for trees in dealt for tree in trees) == [tree for tree, cost in enumerate(costs) if cost > 0.0]
    assert all(trees == sorted(trees) for trees in dealt)
    assert dealt == deal(list(costs), ranks)


@given(COSTS, RANKS)
def test_the_busiest_has_at_most_one_tree_more_to_do(costs: list[float], ranks: int) -> None:
    found = loads(costs, ranks)
    assert max(found) - min(found) <= max(costs, default=0.0) * (1.0 + 1e-9)


@given(COSTS, RANKS)
def test_no_rank_is_idle_while_another_has_several(costs: list[float], ranks: int) -> None:
    sizes = [len(trees) for trees in deal(costs, ranks)]
    assert min(sizes) > 0 or max(sizes) <= 1


@pytest.mark.parametrize("ranks", [2, 4])
def test_batches_of_a_usual_size_are_dealt_evenly(ranks: int) -> None:
    """24 trees, of which the longest are several times as long as the shortest."""
    for seed in range(50):
        costs = np.random.default_rng(seed).lognormal(0.0, 0.4, 24).tolist()
        found = loads(costs, ranks)
        assert max(found) - min(found) <= 0.1 * sum(costs) / ranks


def test_one_rank_gets_everything() -> None:
    assert deal([2.0, 1.0, 3.0], 1) == [[0, 1, 2]]


def test_by_hand() -> None:
    assert deal([8.0, 7.0, 6.0, 5.0, 4.0], 2) == [
        [0, 3, 4],
        [1, 2],
    ]  # 8, 7 | 6 to 7 | 5 to 8 | 4 to the 13 of rank 0, by its number


@pytest.mark.parametrize(("costs", "ranks"), [([1.0], 0), ([-1.0], 1), ([float("nan")], 1), ([float("inf")], 1)])
def test_what_cannot_be_dealt_is_refused(costs: list[float], ranks: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        deal(costs, ranks)
