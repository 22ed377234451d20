"""Credit: golden values by hand, and the laws soft and hard attribution must keep."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rollout_toys import build, node, shuffled

from algorithms.advantages import Credit, Scores, rewards, sampled_weights, spread
from algorithms.advantages.group import group_normalise
from algorithms.advantages.hard import HardAttribution
from algorithms.advantages.soft import SoftAttribution
from algorithms.flat import rows_of
from algorithms.losses import LossInputs
from algorithms.losses.clip import ClipLoss
from algorithms.tree import NO_PARENT, RolloutTree, Status

E, DONE = "observation", Status.ANSWERED
ESTIMATORS = [SoftAttribution(), HardAttribution(), SoftAttribution(shared_once=True), HardAttribution(shared_once=True)]


def crafted(rewards: tuple[float, ...] = (1.0, 0.0, 2.0), statuses: tuple[Status, ...] = (DONE,) * 3) -> RolloutTree:
    """One call shared by two leaves, and one leaf of its own.

    prompt [1] ─ 0: act [2 3] ─ obs [4] ─ act [5 6]   leaf a
                                        └ act [7]     leaf b
               └ 1: act [8 9 10]                      leaf c
    """
    return build(
        node((), NO_PARENT, [1]),
        node((0,), 0, [2, 3], tool="count", reward=0.0),
        node((0, 0), 1, [4], kind=E),
        node((0, 0, 0), 2, [5, 6], status=statuses[0], reward=rewards[0]),
        node((0, 0, 1), 2, [7], status=statuses[1], reward=rewards[1]),
        node((1,), 0, [8, 9, 10], status=statuses[2], reward=rewards[2]),
    )


def rows(values: tuple[np.ndarray, ...]) -> list[list[float]]:
    return [row.round(4).tolist() for row in values]


# --- by hand -----------------------------------------------------------------------------------------------

D = math.sqrt(1.5)  # rewards 1, 0, 2: mean 1, deviation sqrt(2/3); advantages 0, -D, +D


def test_soft_golden() -> None:
    credit = SoftAttribution()([crafted()], Scores())
    wanted = [[0.0] * 6, [-D] * 5, [D] * 4]
    for row, want in zip(credit.advantages[0], wanted, strict=True):
        assert row.tolist() == pytest.approx(want, abs=1e-5)
    assert rows(credit.weights[0]) == [[0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 1], [0, 1, 1, 1]]


def test_hard_golden() -> None:
    credit = HardAttribution()([crafted()], Scores())
    shared = -D / 2
    wanted = [[0.0, shared, shared, shared, 0.0, 0.0], [0.0, shared, shared, shared, -D], [0.0, D, D, D]]
    for row, want in zip(credit.advantages[0], wanted, strict=True):
        assert row.tolist() == pytest.approx(want, abs=1e-5)
    assert rows(credit.weights[0]) == [[0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("estimator", [SoftAttribution(True), HardAttribution(True)])
def test_shared_once_golden(estimator: SoftAttribution | HardAttribution) -> None:
    credit = estimator([crafted()], Scores())
    assert rows(credit.weights[0]) == [[0, 0.5, 0.5, 0, 1, 1], [0, 0.5, 0.5, 0, 1], [0, 1, 1, 1]]
    once = type(estimator)(False)([crafted()], Scores())
    assert rows(credit.advantages[0]) == rows(once.advantages[0])


def test_shared_once_counts_every_sampled_token_once() -> None:
    tree = crafted()
    total = sum(row.sum() for row in sampled_weights(tree, shared_once=True))
    assert total == pytest.approx(sum(sum(n.sampled) for n in tree.nodes))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_failed_leaves_weigh_nothing_and_do_not_move_the_mean(estimator: SoftAttribution | HardAttribution) -> None:
    tree = crafted(rewards=(1.0, 99.0, 2.0), statuses=(DONE, Status.TOOL_TIMEOUT, DONE))
    credit = estimator([tree], Scores())
    assert not credit.weights[0][1].any()
    assert not credit.advantages[0][1][-1:].any()
    # rewards 1 and 2: advantages -1 and 1; the shared call belongs to one valid leaf, so it counts in full
    assert credit.advantages[0][0].tolist()[1:3] == pytest.approx([-1, -1], abs=1e-5)
    assert credit.advantages[0][2].tolist()[1:] == pytest.approx([1, 1, 1], abs=1e-5)
    assert rows(credit.weights[0])[0] == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_rewards_teach_nothing(estimator: SoftAttribution | HardAttribution) -> None:
    credit = estimator([crafted((0.1, 0.1, 0.1))], Scores())
    assert not any(row.any() for row in credit.advantages[0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_only_failed_leaves_are_no_division_by_zero(estimator: SoftAttribution | HardAttribution) -> None:
    credit = estimator([crafted(statuses=(Status.TOOL_FAULT,) * 3)], Scores())
    assert not any(row.any() for row in (*credit.advantages[0], *credit.weights[0]))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_prompts_are_compared_within_themselves(estimator: SoftAttribution | HardAttribution) -> None:
    alone = estimator([crafted()], Scores())
    beside = estimator([crafted((7.0, 9.0, 8.0)), crafted()], Scores())
    assert rows(beside.advantages[1]) == rows(alone.advantages[0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_growing_trees_are_refused(estimator: SoftAttribution | HardAttribution) -> None:
    tree = replace(crafted(), frozen=False)
    with pytest.raises(ValueError, match="frozen"):
        estimator([tree], Scores())


def test_spread_lifts_numbers_and_checks_lengths() -> None:
    tree = crafted()
    lifted = spread(tree, [[0, 1, 2, 3], [0, 1, 2, 4], [0, 5]])
    assert [row.tolist() for row in lifted] == [[0, 1, 1, 2, 3, 3], [0, 1, 1, 2, 4], [0, 5, 5, 5]]
    with pytest.raises(ValueError, match="has 4 nodes on its path, got 3"):
        spread(tree, [[0, 1, 2], [0, 1, 2, 4], [0, 5]])
    with pytest.raises(ValueError, match="shorter"):
        spread(tree, [[0, 1, 2, 3]])


def test_group_normalise_checks_shapes() -> None:
    with pytest.raises(ValueError, match="two vectors"):
        group_normalise(np.zeros(3), np.ones(2, dtype=bool))


# --- laws --------------------------------------------------------------------------------------------------

REWARDS = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-10, 10).map(lambda x: round(x, 3)))


@given(REWARDS, st.randoms(use_true_random=False))
def test_normalised_rewards_are_centred_and_scale_free(reward: np.ndarray, rng: object) -> None:
    valid = np.array([rng.random() < 0.8 for _ in reward], dtype=bool)  # type: ignore[attr-defined]
    advantage = group_normalise(reward, valid)
    assert abs(advantage.sum()) < 1e-6
    assert not advantage[~valid].any()
    assert np.allclose(advantage, group_normalise(reward * 3 + 5, valid), atol=1e-2)
    order = np.array(rng.sample(range(len(reward)), len(reward)), dtype=int)  # type: ignore[attr-defined]
    assert np.allclose(group_normalise(reward[order], valid[order]), advantage[order])
    if advantage.any():
        assert advantage[valid].std() == pytest.approx(1.0, abs=1e-2)


@st.composite
def grown(draw: st.DrawFn) -> RolloutTree:
    """A random frozen tree whose actions and observations alternate."""
    tree = RolloutTree()
    tree.add(node((), NO_PARENT, [1, 2]))
    for _ in range(draw(st.integers(1, 12))):
        parent = draw(st.integers(0, len(tree.nodes) - 1))
        above = tree.nodes[parent]
        kind = "action" if above.kind != "action" else E
        ordinal = sum(n.parent == parent for n in tree.nodes)
        if kind == E and ordinal:
            continue
        tokens = draw(st.lists(st.integers(0, 30), min_size=1, max_size=3))
        tree.add(node((*above.key, ordinal), parent, tokens, kind=kind, parent_at=len(above.tokens)))
    inner = {n.parent for n in tree.nodes}
    for i, n in enumerate(tree.nodes):
        if i not in inner:
            end = draw(st.sampled_from([DONE, DONE, DONE, Status.TRUNCATED, Status.POLICY_FAULT]))
            tree.nodes[i] = replace(n, status=end, reward=draw(st.integers(-2, 2)) / 2)
    return tree.freeze()


@given(grown())
@settings(max_examples=60, deadline=None)
def test_credit_has_one_number_per_token_and_no_weight_where_nothing_was_sampled(tree: RolloutTree) -> None:
    for estimator in ESTIMATORS:
        credit = estimator([tree], Scores())
        for leaf, advantage, weight in zip(tree.leaves(), credit.advantages[0], credit.weights[0], strict=True):
            sampled = [s for n, stop in tree.path(leaf) for s in tree.nodes[n].sampled[:stop]]
            assert len(advantage) == len(weight) == len(tree.tokens(leaf)) == len(sampled)
            assert ((weight > 0) <= np.array(sampled)).all()
            assert np.isfinite(advantage).all()


def flat_group(reward: np.ndarray) -> RolloutTree:
    """Leaves that share nothing but the prompt."""
    ends = [node((i,), 0, [3 + i, 4], status=DONE, reward=float(r)) for i, r in enumerate(reward)]
    return build(node((), NO_PARENT, [1, 2]), *ends)


@given(REWARDS)
@settings(max_examples=40, deadline=None)
def test_soft_equals_hard_where_only_the_prompt_is_shared(reward: np.ndarray) -> None:
    soft, hard = (estimator([flat_group(reward)], Scores()) for estimator in ESTIMATORS[:2])
    for a, b, weight in zip(soft.advantages[0], hard.advantages[0], soft.weights[0], strict=True):
        assert np.allclose(a * weight, b * weight)


def gradient(tree: RolloutTree, credit: Credit) -> dict[int, float]:
    """Returns d(loss)/d(logp) of every token of the tree, the copies of a shared token added up."""
    slopes: dict[int, float] = {}
    total = sum(float(row.weight[1:].sum()) for row in rows_of([tree], credit))
    places = {}
    for i, n in enumerate(tree.nodes):
        for j in range(len(n.tokens)):
            places[i, j] = len(places)
    for leaf, row in zip(tree.leaves(), rows_of([tree], credit), strict=True):
        logp = torch.tensor(row.behaviour_logp[None]).requires_grad_()
        old, advantage, weight = (torch.tensor(x[None]) for x in (row.behaviour_logp, row.advantage, row.weight))
        (ClipLoss()(LossInputs(logp, old, advantage, weight)).loss_BT * weight / max(total, 1e-9)).sum().backward()
        assert logp.grad is not None
        where = [places[n, j] for n, stop in tree.path(leaf) for j in range(stop)]
        for place, slope in zip(where, logp.grad[0].tolist(), strict=True):
            slopes[place] = slopes.get(place, 0.0) + slope
    return slopes


@given(grown())
@settings(max_examples=40, deadline=None)
def test_unclipped_token_mean_gradients_of_soft_and_hard_are_equal(tree: RolloutTree) -> None:
    for soft, hard in (ESTIMATORS[:2], ESTIMATORS[2:]):
        a, b = (gradient(tree, estimator([tree], Scores())) for estimator in (soft, hard))
        assert a == pytest.approx(b, abs=1e-9)


@given(grown(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_arrival_never_matters(tree: RolloutTree, rng: object) -> None:
    other = shuffled(replace(tree, frozen=False), rng).freeze()  # type: ignore[arg-type]
    for estimator in ESTIMATORS:
        one, two = estimator([tree], Scores()), estimator([other], Scores())
        assert rows(one.advantages[0]) == rows(two.advantages[0])
        assert rows(one.weights[0]) == rows(two.weights[0])


def test_a_chain_of_two_hundred_forks() -> None:
    tree = RolloutTree()
    at = tree.add(node((), NO_PARENT, [1]))
    for depth in range(200):
        key = tree.nodes[at].key
        action = tree.add(node((*key, 0), at, [2], parent_at=1))
        at_observation = tree.add(node((*key, 0, 0), action, [3], kind=E, parent_at=1))
        tree.add(node((*key, 1), at, [4], status=DONE, reward=float(depth % 2), parent_at=1))
        at = at_observation
    tree.add(node((*tree.nodes[at].key, 0), at, [5], status=DONE, reward=1.0, parent_at=1))
    frozen = tree.freeze()
    assert len(frozen.leaves()) == 201
    soft, hard = (estimator([frozen], Scores()) for estimator in ESTIMATORS[:2])
    deepest = frozen.leaves().index(max(frozen.leaves(), key=lambda leaf: len(frozen.path(leaf))))
    reward_L, _ = rewards(frozen)
    advantage_L = group_normalise(reward_L, np.ones(201, dtype=bool))
    # the first action lies above every leaf but the first side branch
    side = next(i for i, leaf in enumerate(frozen.leaves()) if len(frozen.path(leaf)) == 2)
    others = np.delete(advantage_L, side)
    assert hard.advantages[0][deepest][1] == pytest.approx(others.mean())
    assert soft.advantages[0][deepest][1] == pytest.approx(advantage_L[deepest])
    assert RolloutTree.from_json(frozen.to_json()) == frozen
