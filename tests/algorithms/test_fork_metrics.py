"""What is measured of forks, worked by hand on small trees."""

import pytest
from rollout_toys import Coin, CountTool, Plan, build, calls_then_answer, grow, node

from algorithms.metrics.forks import (
    entropy_changes,
    fork_points,
    mixed_outcomes,
    sibling_spreads,
    summarise_forks,
    unique_token_ratio,
)
from algorithms.tree import Status


def leaf(key: tuple[int, ...], parent: int, reward: float, **fields):
    blank = {"reward": reward, "success": float(reward == 1.0), "status": Status.ANSWERED}
    return node(key, parent, [1], **(blank | fields))


def forked():
    """Two forks on one path, the second below the first; a path of the first failed, and a root stands alone."""
    return build(
        node((), -1, [9, 9]),
        node((0,), 0, [1, 2], origin="root", tool="search", entropies=(1.0, 3.0)),
        node((0, 0), 1, [5, 5], kind="observation"),
        node((0, 0, 0), 2, [1], tool="search", entropies=(2.5,)),
        node((0, 0, 0, 0), 3, [5], kind="observation"),
        leaf((0, 0, 0, 0, 0), 4, 1.0, entropies=(1.0,)),
        leaf((0, 0, 0, 0, 1), 4, 0.0, origin="branch"),
        leaf((0, 0, 1), 2, 0.25, origin="branch"),
        node((0, 0, 2), 2, [], origin="branch", status=Status.TOOL_FAULT),
        leaf((1,), 0, 0.25, origin="root"),
    )


def test_forks_by_hand():
    tree = forked()
    assert [[tree.nodes[i].key for i in (point, *own)] for point, own in fork_points(tree).items()] == [
        [(0, 0), (0, 0, 0), (0, 0, 1), (0, 0, 2)],
        [(0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 1)],
    ]
    assert entropy_changes(tree) == [2.5 - 2.0, 1.0 - 2.0]
    assert sibling_spreads(tree) == [(1.0 + 0.0) / 2 - 0.25, 1.0]
    assert mixed_outcomes(tree) == [True, True]


def test_a_batch_by_hand():
    # 12 tokens are held; the five paths have 9, 9, 7, 6 and 3
    assert unique_token_ratio([forked()]) == 12 / 34
    assert summarise_forks([forked()]) == {
        "reward_std": pytest.approx(((0.625**2 + 0.375**2 + 2 * 0.125**2) / 4) ** 0.5),
        "response_length": (4 + 4 + 3 + 1) / 4,
        "unique_token_ratio": 12 / 34,
        "fork_entropy_change": -0.25,
        "sibling_reward_spread": 0.625,
        "mixed_outcome_forks": 1.0,
    }


def test_siblings_that_all_did_the_same_and_a_fork_of_failures():
    failed = {"status": Status.TOOL_FAULT, "origin": "branch"}
    prompt, root = node((), -1, [9]), node((0,), 0, [1], origin="root", entropies=(1.0,))
    same = build(prompt, root, leaf((0, 1), 1, 0.5), leaf((0, 2), 1, 0.5, origin="branch"))
    assert (sibling_spreads(same), mixed_outcomes(same)) == ([0.0], [False])
    alone = build(prompt, root, leaf((0, 1), 1, 0.5), node((0, 2), 1, [], **failed))
    assert (sibling_spreads(alone), mixed_outcomes(alone)) == ([], [])


def test_without_forks_or_trees_everything_is_zero_or_whole():
    assert set(summarise_forks([]).values()) == {0.0}
    single = build(node((), -1, [9]), leaf((0,), 0, 1.0, origin="root"))
    assert summarise_forks([single])["unique_token_ratio"] == 1.0
    assert fork_points(single) == {}


def test_what_grew_shares_tokens_just_where_it_forked():
    trees = grow(CountTool(), Plan(Coin(roots=2, probability=0.6), 8), calls_then_answer(2), prompts=3)
    for tree in trees:
        assert 0.0 < unique_token_ratio([tree]) < 1.0
        assert len(fork_points(tree)) == len({one.parent for one in tree.nodes if one.origin == "branch"})
