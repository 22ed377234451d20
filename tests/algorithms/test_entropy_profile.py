"""Entropy around tool results: by hand, whatever the order of the trees, and each shared token once."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import build, node
from test_tree import prompt

from algorithms.evaluation import entropy_profile
from algorithms.tree import NO_PARENT, RolloutTree, Status


def action(key: tuple[int, ...], parent: int, entropies: list[float], **fields):
    return node(key, parent, range(len(entropies)), entropies=entropies, kind="action", **fields)


def result(key: tuple[int, ...], parent: int, at: int):
    return node(key, parent, [7, 8], kind="observation", parent_at=at)


def chain(question: int, call: list[float], after: list[float], tool: str = "search") -> RolloutTree:
    """One rollout: a call, its result, an answer."""
    return build(
        node((), NO_PARENT, [question]),
        action((0,), 0, call, parent_at=1, tool=tool),
        result((0, 0), 1, len(call)),
        action((0, 0, 0), 2, after, parent_at=2, status=Status.ANSWERED),
    ).freeze()


def test_by_hand():
    found = entropy_profile([chain(1, [1.0, 0.5], [2.0, 1.0, 9.0]), chain(2, [0.0, 0.5], [4.0, 3.0])], tokens=2)
    tool = found.tools["search"]
    assert {at: (value.mean, value.count) for at, value in tool.at.items()} == {
        -2: (0.5, 2), -1: (0.5, 2), 1: (3.0, 2), 2: (2.0, 2)}  # fmt: skip
    assert tool.results == 2
    assert tool.change is not None
    assert tool.change.mean == ((1.5 - 0.75) + (3.5 - 0.25)) / 2
    assert tool.rounds[1].mean == 2.5
    assert found.average.mean == (1.0 + 0.5 + 2.0 + 1.0 + 9.0 + 0.0 + 0.5 + 4.0 + 3.0) / 9
    assert found.start.mean == 0.5
    assert (tool.at[1].low, tool.at[1].high) == (2.0, 4.0)  # one of the two, the other, or both


def test_a_forks_shared_prefix_counts_once():
    forked = build(
        prompt(),
        action((0,), 0, [1.0, 3.0], parent_at=2, tool="search"),
        result((0, 0), 1, 2),
        action((0, 0, 0), 2, [5.0, 2.0, 4.0], parent_at=2, status=Status.ANSWERED),
        action((0, 0, 1), 2, [7.0], parent_at=2, status=Status.ANSWERED, origin="branch"),
        action((0, 0, 0, 0), 3, [6.0], parent_at=1, status=Status.ANSWERED, origin="branch"),
    ).freeze()
    tool = entropy_profile([forked], tokens=2).tools["search"]
    assert tool.results == 1
    assert {at: (value.mean, value.count) for at, value in tool.at.items()} == {
        -2: (1.0, 1), -1: (3.0, 1), 1: (6.0, 2), 2: (4.0, 2)}  # fmt: skip
    assert tool.change is not None
    assert tool.change.count == 3  # three different beginnings: 5 2, 5 6, 7
    assert tool.change.mean == pytest.approx(((3.5 + 5.5 + 7.0) / 3) - 2.0)
    assert math.isnan(tool.change.low), "one question says nothing about others"


def test_an_action_split_by_a_fork_is_read_whole():
    forked = build(
        prompt(),
        action((0,), 0, [1.0, 2.0, 3.0], parent_at=2, tool="search"),
        result((0, 0), 1, 3),
        action((0, 0, 0), 2, [4.0], parent_at=2, status=Status.ANSWERED),
        action((0, 1), 1, [9.0], parent_at=1, status=Status.ANSWERED, origin="branch"),
    ).freeze()
    at = entropy_profile([forked], tokens=5).tools["search"].at
    assert {place: value.mean for place, value in at.items()} == {-3: 1.0, -2: 2.0, -1: 3.0, 1: 4.0}


def test_tokens_that_nobody_drew_have_no_position():
    tree = build(
        prompt(),
        action((0,), 0, [1.0, 0.0], parent_at=2, tool="search", sampled=(True, False)),
        result((0, 0), 1, 2),
        action((0, 0, 0), 2, [4.0], parent_at=2, status=Status.ANSWERED),
    ).freeze()
    at = entropy_profile([tree]).tools["search"].at
    assert {place: value.mean for place, value in at.items()} == {-1: 1.0, 1: 4.0}


nats = st.lists(st.floats(0.0, 10.0, width=32), min_size=1, max_size=4)
some = st.lists(st.builds(chain, st.integers(1, 3), nats, nats, st.sampled_from(["search", "python"])), min_size=1, max_size=6)


@given(trees=some, data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_order_of_trees_changes_nothing_and_the_seed_decides(trees, data):
    first = entropy_profile(trees, tokens=3, seed=5, resamples=20)
    again = entropy_profile(data.draw(st.permutations(trees)), tokens=3, seed=5, resamples=20)
    assert repr(first) == repr(again)  # NaN equals itself there
    for tool in first.tools.values():
        assert sum(value.count for at, value in tool.at.items() if at > 0) == sum(v.count for v in tool.rounds.values())


def test_another_seed_draws_other_questions():
    trees = [chain(q, [1.0], [q / 3, q * q % 7]) for q in range(1, 9)]
    seeds = [entropy_profile(trees, seed=seed, resamples=50).average for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_rollouts_of_one_question_stay_together():
    """Copies of the same rollout are no evidence: the interval is as wide as without them."""
    once = [chain(q, [1.0], [float(q)]) for q in range(1, 5)]
    assert entropy_profile(once).tools["search"].at[1].low == entropy_profile(once * 9).tools["search"].at[1].low


@pytest.mark.parametrize("options", [{"tokens": 0}, {"resamples": 0}])
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match="at least 1"):
        entropy_profile([chain(1, [1.0], [1.0])], **options)
    with pytest.raises(ValueError, match="No token was sampled"):
        entropy_profile([])
