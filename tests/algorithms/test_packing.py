"""Packing: rows that hold each token once, cut where that is cheapest, and the same numbers as flat rows."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packing_toys import comb, random_tree
from rollout_toys import build, node

from algorithms.packing.batch import visible
from algorithms.packing.layout import Cost, batches, cut, pack, plan
from algorithms.tree import NO_PARENT, RolloutTree, Status

SEEDS = st.integers(0, 10_000)


def leaves(tree: RolloutTree) -> list[int]:
    return list(range(len(tree.leaves())))


def unique(tree: RolloutTree, some: list[int]) -> int:
    ends = tree.leaves()
    return sum(len(tree.nodes[n].tokens) for n in {n for leaf in some for n, _ in tree.path(ends[leaf])})


# --- one row ------------------------------------------------------------------------------------------------


@given(SEEDS, st.data())
@settings(max_examples=80, deadline=None)
def test_every_path_lies_in_the_row_and_sees_itself_alone(seed: int, data: st.DataObject) -> None:
    tree = random_tree(seed)
    some = data.draw(st.lists(st.sampled_from(leaves(tree)), min_size=1, unique=True))
    row = pack(tree, some)
    assert len(row) == unique(tree, some), "each token once"
    sees_NN = visible(torch.from_numpy(row.end)[None])[0].numpy()
    for leaf, index_T in zip(some, row.index, strict=True):
        assert row.tokens[index_T].tolist() == tree.tokens(tree.leaves()[leaf])
        assert row.position[index_T].tolist() == list(range(len(index_T)))
        for t, place in enumerate(index_T):
            assert np.flatnonzero(sees_NN[place]).tolist() == sorted(index_T[: t + 1]), "its ancestors, and nothing else"


def test_a_row_by_hand() -> None:
    tree = build(
        node((), NO_PARENT, [10, 11]),
        node((0,), 0, [20]),
        node((0, 0), 1, [30, 31], status=Status.ANSWERED, reward=1.0),
        node((0, 1), 1, [40], status=Status.ANSWERED, reward=0.0),
        node((1,), 0, [50], status=Status.ANSWERED, reward=0.0),
    )
    row = pack(tree, [0, 1, 2])
    assert row.tokens.tolist() == [10, 11, 20, 30, 31, 40, 50]
    assert row.position.tolist() == [0, 1, 2, 3, 4, 3, 2]
    assert row.end.tolist() == [7, 7, 6, 5, 5, 6, 7]
    assert [index.tolist() for index in row.index] == [[0, 1, 2, 3, 4], [0, 1, 2, 5], [0, 1, 6]]
    assert pack(tree, [1, 2]).tokens.tolist() == [10, 11, 20, 40, 50]


def test_only_frozen_trees_and_some_leaves() -> None:
    tree = build(node((), NO_PARENT, [1]), node((0,), 0, [2], status=Status.ANSWERED, reward=1.0), freeze=False)
    for bad, some in ((tree, [0]), (tree.freeze(), [])):
        with pytest.raises(ValueError, match="frozen tree"):
            pack(bad, some)


def test_a_chain_of_two_hundred_forks() -> None:
    tree = comb(200)
    assert len(tree.leaves()) == 201
    row = pack(tree, leaves(tree))
    assert len(row) == 2 + 2 * 200
    assert max(row.position) == 201
    assert sorted(leaf for group in cut(tree, leaves(tree), Cost(0.001), 10**6) for leaf in group) == leaves(tree)


# --- cutting ------------------------------------------------------------------------------------------------


def total(tree: RolloutTree, groups: list[list[int]], cost: Cost) -> float:
    return sum(cost(unique(tree, group), len(group)) for group in groups)


def all_cuts(tree: RolloutTree, budget: int) -> list[list[list[int]]]:
    """Every way to cut a tree at its forks, by brute force."""
    ends = tree.leaves()
    paths = {leaf: [n for n, _ in tree.path(ends[leaf])] for leaf in leaves(tree)}

    def below(n: int) -> list[int]:
        return [leaf for leaf, path in paths.items() if n in path]

    def ways(n: int) -> list[list[list[int]]]:
        here = below(n)
        children = [i for i, one in enumerate(tree.nodes) if one.parent == n]
        whole = [[here]] if len(here) == 1 or unique(tree, here) <= budget else []
        if not children:
            return whole
        apart = product(*(ways(child) for child in children))
        return whole + [[group for part in combination for group in part] for combination in apart]

    return ways(0)


@given(SEEDS, st.sampled_from([0.0, 0.01, 0.1, 1.0]), st.sampled_from([1, 12, 25, 10**6]))
@settings(max_examples=60, deadline=None)
def test_the_cut_is_the_cheapest_of_all(seed: int, pair: float, budget: int) -> None:
    tree, cost = random_tree(seed, nodes=8), Cost(pair)
    groups = cut(tree, leaves(tree), cost, budget)
    assert sorted(leaf for group in groups for leaf in group) == leaves(tree)
    assert all(len(group) == 1 or unique(tree, group) <= budget for group in groups)
    assert total(tree, groups, cost) == pytest.approx(min(total(tree, way, cost) for way in all_cuts(tree, budget)))


def test_free_attention_keeps_trees_whole_and_dear_attention_takes_them_apart() -> None:
    tree = random_tree(3, nodes=30)
    assert cut(tree, leaves(tree), Cost(0.0), 10**6) == [leaves(tree)]
    assert cut(tree, leaves(tree), Cost(100.0), 10**6) == [[leaf] for leaf in leaves(tree)]


def test_leaves_that_are_not_wanted_are_not_computed() -> None:
    trees = [random_tree(1), random_tree(2), random_tree(5)]
    counts = [len(tree.leaves()) for tree in trees]
    wanted = [0, counts[0] + counts[1], counts[0] + counts[1] + 1]
    rows = plan(trees, wanted, Cost(), 10**6)
    assert sorted(leaf for row in rows for leaf in row.leaves) == wanted
    assert sum(map(len, rows)) == unique(trees[0], [0]) + unique(trees[2], [0, 1])


@given(st.lists(st.integers(1, 300), max_size=30), st.sampled_from([1, 64, 200, 10**6]))
@settings(max_examples=50, deadline=None)
def test_rows_go_together_within_the_budget(lengths: list[int], budget: int) -> None:
    found = list(batches(lengths, budget))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget for batch in found)
