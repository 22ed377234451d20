"""Credit: golden values by hand, and the laws soft and hard attribution must keep."""

import math
from dataclasses import replace

import numpy as np
import pytest
from credit_toys import DONE, comb, crafted, flat_group, gradient, grown, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rollout_toys import build, node, shuffled

from algorithms import make
from algorithms.advantages import Scores, rewards, sampled_weights, spread
from algorithms.advantages.group import group_normalise
from algorithms.advantages.hard import HardAttribution
from algorithms.advantages.paths import column
from algorithms.advantages.rounding import snapped, tolerance
from algorithms.advantages.soft import SoftAttribution
from algorithms.advantages.whitening import whiten
from algorithms.losses.clip import ClipLoss
from algorithms.recipes import names
from algorithms.tree import NO_PARENT, RolloutTree, Status

ESTIMATORS = [SoftAttribution(), HardAttribution(), SoftAttribution(shared_once=True), HardAttribution(shared_once=True)]


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


@given(REWARDS)
@settings(max_examples=40, deadline=None)
def test_soft_equals_hard_where_only_the_prompt_is_shared(reward: np.ndarray) -> None:
    soft, hard = (estimator([flat_group(reward)], Scores()) for estimator in ESTIMATORS[:2])
    for a, b, weight in zip(soft.advantages[0], hard.advantages[0], soft.weights[0], strict=True):
        assert np.allclose(a * weight, b * weight)


@given(grown())
@settings(max_examples=40, deadline=None)
def test_unclipped_token_mean_gradients_of_soft_and_hard_are_equal(tree: RolloutTree) -> None:
    for soft, hard in (ESTIMATORS[:2], ESTIMATORS[2:]):
        a, b = (gradient(tree, estimator([tree], Scores()), ClipLoss()) for estimator in (soft, hard))
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
    frozen = comb(200)
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


# --- equal but for rounding ----------------------------------------------------------------------------------

EQUAL = [(0.3, 0.1 + 0.2, 0.3), (1e9 + 0.1,) * 3, (3e9, 3e9 * (1.0 + 2.0**-52), 3e9), (-0.7, -0.7, -0.7), (0.0, 0.0, -0.0)]


@pytest.mark.parametrize("equal", EQUAL)
@pytest.mark.parametrize("name", [name for name in names() if "values" not in make(name).needs])
def test_equal_rewards_teach_nothing_however_large_they_are(name: str, equal: tuple[float, ...]) -> None:
    algorithm = make(name)
    trees = [crafted(equal), crafted(equal[::-1]), flat_group(equal)]
    scores = Scores(reference=tuple(tuple(column(tree, leaf, "logprobs") for leaf in tree.leaves()) for tree in trees))
    credit = algorithm.advantages(trees, scores)
    for tree in zip(credit.advantages, credit.weights, strict=True):
        for advantage_T, weight_T in zip(*tree, strict=True):
            assert not (advantage_T * weight_T).any()


def test_a_difference_that_is_none_but_small_is_one() -> None:
    small = group_normalise(np.array([1.0, 1.0 + 1e-9]), np.ones(2, dtype=bool), epsilon=1e-12)
    assert small.tolist() == pytest.approx([-1.0, 1.0], abs=0.01)
    assert snapped(np.array([1.0, 1.0 + 1e-9, 2.0])).tolist() == [1.0, 1.0 + 1e-9, 2.0]


@given(hnp.arrays(np.float64, st.integers(0, 8), elements=st.floats(-1e6, 1e6)))
def test_snapping_moves_nothing_by_more_than_rounding_and_is_done_once(value_I: np.ndarray) -> None:
    found_I = snapped(value_I)
    assert np.abs(found_I - value_I).max(initial=0.0) <= len(value_I) * tolerance(value_I)
    assert snapped(found_I).tolist() == found_I.tolist()
    assert (np.argsort(value_I, kind="stable") == np.argsort(found_I, kind="stable")).all() or len(set(found_I)) < len(value_I)


def test_what_is_no_number_spoils_no_other_one_of_the_batch() -> None:
    value = [[np.array([0.0, 2.0]), np.array([math.nan, 4.0])]]
    first, second = whiten(value, [[np.ones(2), np.ones(2)]])[0]
    assert math.isnan(second[0])
    assert [*first, second[1]] == pytest.approx([-math.sqrt(1.5), 0.0, math.sqrt(1.5)])  # 0, 2, 4: deviation √(8/3)


def test_rewards_that_cancel_along_a_path_are_equal_to_none() -> None:
    tree = build(
        node((), NO_PARENT, [1]),
        *(node((i,), 0, [2], reward=first, tool="count") for i, first in enumerate((0.1, 0.0))),
        *(node((i, 0), 1 + i, [3], kind="observation", reward=second) for i, second in enumerate((0.2, 0.0))),
        *(node((i, 0, 0), 3 + i, [4], status=DONE, reward=last) for i, last in enumerate((-0.3, 0.0))),
    )
    assert tree.total_reward(tree.leaves()[0]) != 0.0
    assert rewards(tree)[0].tolist()[0] == rewards(tree)[0].tolist()[1]


def test_whitening_has_its_floor_on_the_variance() -> None:
    value, weight = [[np.array([0.0, 2e-4])]], [[np.ones(2)]]
    assert whiten(value, weight)[0][0].tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])  # 1e-4 / √(1e-8 + 1e-8)
