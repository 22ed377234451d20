"""Laws that credit must keep on every tree, whoever gives it."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from credit_toys import DONE, by_identity, comb, crafted, flat_group, gradient, grown, reordered, scores_for
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rollout_toys import node, shuffled

from algorithms.advantages import AdvantageEstimator, Credit, rewards, sampled_weights
from algorithms.advantages.baseline import leaf_advantages, sibling_weights
from algorithms.advantages.entropy_aware import EntropyAware
from algorithms.advantages.gae import GeneralisedAdvantage
from algorithms.advantages.gigpo import GroupInGroup
from algorithms.advantages.hard import HardAttribution
from algorithms.advantages.inter_intra import InterIntraTree
from algorithms.advantages.leave_one_out import LeaveOneOut
from algorithms.advantages.node_values import node_values
from algorithms.advantages.segments import SegmentAdvantage
from algorithms.advantages.soft import SoftAttribution
from algorithms.advantages.subgroups import Subgroups
from algorithms.advantages.token_returns import TokenReturns
from algorithms.advantages.tree_rl import GlobalLocal
from algorithms.advantages.whitened_group import WhitenedGroup
from algorithms.losses.clip import ClipLoss
from algorithms.tree import NO_PARENT, RolloutTree, Status

ESTIMATORS: dict[str, AdvantageEstimator] = {
    "soft": SoftAttribution(),
    "hard": HardAttribution(),
    "soft, each token once": SoftAttribution(shared_once=True),
    "hard, per tree": HardAttribution(baseline="tree"),
    "soft, over siblings": SoftAttribution(baseline="siblings"),
    "soft, no deviation": SoftAttribution(deviation="none"),
    "soft, a sample's deviation": SoftAttribution(deviation="sample"),
    "rloo": LeaveOneOut(),
    "rloo with kl": LeaveOneOut(kl=0.1),
    "token returns": TokenReturns(kl=0.1),
    "whitened group": WhitenedGroup(),
    "gigpo": GroupInGroup(),
    "gigpo with deviation": GroupInGroup(deviation="population"),
    "tree-grpo": InterIntraTree(),
    "tree-rl": GlobalLocal(),
    "tree-po": Subgroups(),
    "tree-po by size": Subgroups("size"),
    "spo": SegmentAdvantage(),
    "spo by siblings": SegmentAdvantage("siblings"),
    "aepo": EntropyAware(),
    "gae": GeneralisedAdvantage(),
}
EVERY = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
REWARDS = hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-10, 10).map(lambda x: round(x, 3)))
QUICK = settings(max_examples=12, deadline=None)


def credit_of(estimator: AdvantageEstimator, *trees: RolloutTree) -> Credit:
    return estimator(list(trees), scores_for(list(trees)))


def streams(credit: Credit, tree: int = 0) -> list[tuple[np.ndarray, ...]]:
    """Everything a leaf gets, one tuple of arrays after another."""
    given = [credit.advantages[tree], credit.weights[tree]]
    return given if credit.returns is None else [*given, credit.returns[tree]]


@pytest.mark.turns("estimator", always=7)
@EVERY
@given(grown())
@QUICK
def test_every_token_gets_one_finite_number_and_weight_only_where_the_policy_sampled(
    estimator: AdvantageEstimator, tree: RolloutTree
) -> None:
    credit = credit_of(estimator, tree)
    _, valid_L = rewards(tree)
    for stream in streams(credit):
        assert [len(row) for row in stream] == [len(tree.tokens(leaf)) for leaf in tree.leaves()]
        assert all(np.isfinite(row).all() for row in stream)
    for leaf, valid, weight in zip(tree.leaves(), valid_L, credit.weights[0], strict=True):
        sampled = [s for n, stop in tree.path(leaf) for s in tree.nodes[n].sampled[:stop]]
        assert ((weight > 0) <= np.array(sampled)).all()
        assert valid or not weight.any()


@pytest.mark.turns("estimator", always=7)
@EVERY
@given(grown(), st.integers(0, 1000))
@QUICK
def test_neither_arrival_nor_the_order_of_siblings_matters(estimator: AdvantageEstimator, tree: RolloutTree, seed: int) -> None:
    wanted = credit_of(estimator, tree)
    arrived = shuffled(replace(tree, frozen=False), random.Random(seed)).freeze()
    assert [list(map(list, s)) for s in streams(credit_of(estimator, arrived))] == [list(map(list, s)) for s in streams(wanted)]
    other = reordered(tree, random.Random(seed))
    for stream, same in zip(streams(wanted), streams(credit_of(estimator, other)), strict=True):
        one, two = by_identity(tree, stream), by_identity(other, same)
        assert one.keys() == two.keys()
        assert all(one[path] == pytest.approx(two[path], abs=1e-6) for path in one)


@pytest.mark.turns("estimator", always=7)
@EVERY
@given(grown(), grown())
@QUICK
def test_what_a_failed_leaf_earned_changes_nothing(
    estimator: AdvantageEstimator, tree: RolloutTree, beside: RolloutTree
) -> None:
    poisoned = replace(tree, nodes=list(tree.nodes))
    for leaf in tree.leaves():
        status = tree.nodes[leaf].status
        if status is not None and not status.is_model:
            poisoned.nodes[leaf] = replace(tree.nodes[leaf], reward=1e6)
    before, after = credit_of(estimator, tree, beside), credit_of(estimator, poisoned, beside)
    for place in range(2):
        for weight, old, new in zip(before.weights[place], before.advantages[place], after.advantages[place], strict=True):
            assert new[weight > 0].tolist() == pytest.approx(old[weight > 0].tolist(), abs=1e-9)


@pytest.mark.turns("estimator", always=4)
@EVERY
def test_a_chain_of_two_hundred_forks(estimator: AdvantageEstimator) -> None:
    tree = comb(200)
    credit = credit_of(estimator, tree)
    assert len(credit.advantages[0]) == 201
    assert all(np.isfinite(row).all() for row in credit.advantages[0])
    assert any(row.any() for row in credit.advantages[0])


@EVERY
def test_only_failed_leaves_and_no_trees_at_all_are_no_division_by_zero(estimator: AdvantageEstimator) -> None:
    credit = credit_of(estimator, crafted(statuses=(Status.TOOL_FAULT,) * 3))
    assert not any(row.any() for row in credit.weights[0])
    assert credit_of(estimator).advantages == ()


@EVERY
def test_growing_trees_are_refused(estimator: AdvantageEstimator) -> None:
    with pytest.raises(ValueError, match="frozen"):
        credit_of(estimator, replace(crafted(), frozen=False))


NOT_COMPARED = {"rloo with kl", "token returns", "gae"}  # a penalty, or a value head, sees more than rewards


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in NOT_COMPARED])
def test_equal_rewards_teach_nothing(name: str) -> None:
    tree = crafted((0.1, 0.1, 0.1))
    assert not any((row * (w > 0)).any() for row, w in zip(*streams(credit_of(ESTIMATORS[name], tree))[:2], strict=True))


# --- sums ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deviation", ["population", "sample", "none"])
@given(grown())
@QUICK
def test_group_advantages_sum_to_zero_over_what_they_are_compared_with(deviation: Any, tree: RolloutTree) -> None:
    _, valid_L = rewards(tree)
    assert abs(leaf_advantages(tree, "leaves", deviation).sum()) < 1e-6
    assert abs(leaf_advantages(tree, "tree", deviation).sum()) < 1e-6
    if deviation != "sample":
        weighted = leaf_advantages(tree, "siblings", deviation) * sibling_weights(tree, valid_L)
        assert abs(weighted.sum()) < 1e-6


@given(grown())
@QUICK
def test_whitened_credit_has_mean_zero_and_deviation_one_over_the_batch(tree: RolloutTree) -> None:
    for name in ("token returns", "whitened group", "tree-po", "gae"):
        credit = credit_of(ESTIMATORS[name], tree, crafted())
        value, weight = (np.concatenate([row for rows in some for row in rows]) for some in (credit.advantages, credit.weights))
        assert np.average(value, weights=weight) == pytest.approx(0.0, abs=1e-6)
        assert np.average(value**2, weights=weight) == pytest.approx(1.0, abs=1e-4)


@given(grown())
@QUICK
def test_segments_add_up_to_what_the_whole_path_is_worth(tree: RolloutTree) -> None:
    """V(leaf) − V(prompt) is the sum of what the stretches between forks changed."""
    nodes = node_values(tree, over="branches")
    reward_L, valid_L = rewards(tree)
    for leaf, reward, valid in zip(tree.leaves(), reward_L, valid_L, strict=True):
        path = [node for node, _ in tree.path(leaf)]
        forks = {int(nodes.fork_N[node]) for node in path}
        ends = [node for node in path[1:] if node in forks or node == leaf]
        gained = sum(nodes.value_N[end] - nodes.value_N[nodes.fork_N[end]] for end in ends)
        if valid:
            assert gained == pytest.approx(reward - nodes.value_N[0], abs=1e-9)


# --- shared tokens ------------------------------------------------------------------------------------------


@given(REWARDS)
@QUICK
def test_without_forks_the_relatives_agree(reward: np.ndarray) -> None:
    """Where only the prompt is shared, soft equals hard, all baselines but "tree" agree, and weights are 1."""
    tree = flat_group(reward)
    soft = credit_of(SoftAttribution(), tree)
    for same in (HardAttribution(), SoftAttribution(baseline="siblings"), SoftAttribution(shared_once=True)):
        other = credit_of(same, tree)
        for a, b, weight in zip(soft.advantages[0], other.advantages[0], soft.weights[0], strict=True):
            assert np.allclose(a * weight, b * weight)
        assert [w.tolist() for w in other.weights[0]] == [w.tolist() for w in soft.weights[0]]
    assert not leaf_advantages(tree, "tree").any()


@given(grown(), st.sampled_from(["leaves", "tree", "siblings"]), st.booleans())
@QUICK
def test_unclipped_token_mean_gradients_of_soft_and_hard_are_equal(tree: RolloutTree, baseline: Any, once: bool) -> None:
    soft, hard = SoftAttribution(once, baseline), HardAttribution(once, baseline)
    for drift in (0.0, 0.15):  # ratios up to 1.16 stay inside the clip
        a, b = (gradient(tree, credit_of(estimator, tree), ClipLoss(), drift) for estimator in (soft, hard))
        assert a == pytest.approx(b, abs=1e-9)


def test_clipped_gradients_of_soft_and_hard_differ() -> None:
    """Clipping looks at the sign of a copy's advantage, or of their mean: so the law above can fail."""
    tree = crafted((1.0, 0.0, 0.5))
    a, b = (gradient(tree, credit_of(estimator, tree), ClipLoss(), 1.0) for estimator in (SoftAttribution(), HardAttribution()))
    assert a != pytest.approx(b, abs=1e-3)


@given(grown())
@QUICK
def test_the_weights_of_a_shared_token_add_up_to_one_or_to_its_paths(tree: RolloutTree) -> None:
    _, valid_L = rewards(tree)
    for once in (False, True):
        total, paths = np.zeros(len(tree.nodes)), np.zeros(len(tree.nodes))
        for leaf, valid, weight in zip(tree.leaves(), valid_L, sampled_weights(tree, shared_once=once), strict=True):
            at = 0
            for n, stop in tree.path(leaf):
                if stop and tree.nodes[n].kind == "action":
                    total[n] += weight[at]
                    paths[n] += valid
                at += stop
        assert total.tolist() == pytest.approx((np.minimum(paths, 1) if once else paths).tolist())


# --- duplicates ---------------------------------------------------------------------------------------------


def with_copies(tree: RolloutTree, leaf: int, copies: int, at: int) -> RolloutTree:
    """The tree in which a leaf's last action was forked after `at` tokens, and all forks came to the same."""
    other = replace(tree, nodes=list(tree.nodes), frozen=False)
    end = tree.nodes[leaf]
    for i in range(copies):
        tail = tuple(end.tokens[at:]) or (0,)
        other.add(node((*end.key, 1 + i), leaf, tail, parent_at=at, status=end.status, reward=end.reward, seed=1000 + i))
    return other.freeze()


def baseline_of(tree: RolloutTree, over: Any) -> float:
    """What is subtracted from a reward."""
    reward_L, valid_L = rewards(tree)
    difference_L = reward_L - leaf_advantages(tree, over, "none")
    return float(difference_L[valid_L][0])


@given(grown(), st.integers(1, 4), st.data())
@QUICK
def test_copies_of_a_leaf_do_not_move_the_baseline_over_siblings(tree: RolloutTree, copies: int, data: st.DataObject) -> None:
    _, valid_L = rewards(tree)
    long = [leaf for leaf, valid in zip(tree.leaves(), valid_L, strict=True) if valid and len(tree.nodes[leaf].tokens) > 1]
    if not long or len(np.unique(rewards(tree)[0][valid_L])) < 2:
        return
    leaf = data.draw(st.sampled_from(long))
    copied = with_copies(tree, leaf, copies, data.draw(st.integers(1, len(tree.nodes[leaf].tokens) - 1)))
    assert baseline_of(copied, "siblings") == pytest.approx(baseline_of(tree, "siblings"), abs=1e-9)
    by_end = {tree.nodes[end].seed: a for end, a in zip(tree.leaves(), leaf_advantages(tree, "siblings"), strict=True)}
    for end, advantage in zip(copied.leaves(), leaf_advantages(copied, "siblings"), strict=True):
        wanted = by_end[tree.nodes[leaf].seed if copied.nodes[end].seed >= 1000 else copied.nodes[end].seed]
        assert advantage == pytest.approx(wanted, abs=1e-6)


def test_copies_of_a_leaf_do_move_the_baseline_over_leaves() -> None:
    tree = crafted()
    leaf = tree.leaves()[2]  # reward 2 of 1, 0, 2
    copied = with_copies(tree, leaf, 3, 1)
    assert baseline_of(tree, "leaves") == 1.0
    assert baseline_of(copied, "leaves") == pytest.approx((1 + 0 + 4 * 2) / 6)
    assert baseline_of(copied, "siblings") == baseline_of(tree, "siblings") == 1.25


def test_the_baseline_over_siblings_does_not_lean_towards_paths_that_fork() -> None:
    """A policy whose good half forks: the mean over leaves overrates the prompt, the mean of siblings' means does not."""
    rng = np.random.default_rng(5)
    plain, corrected = [], []
    for _ in range(400):
        tree = RolloutTree()
        tree.add(node((), NO_PARENT, [1]))
        for root in range(4):
            good = bool(rng.random() < 0.5)
            action = tree.add(node((root,), 0, [2], parent_at=1))
            after = tree.add(node((root, 0), action, [3], kind="observation", parent_at=1))
            for i in range(4 if good else 1):
                reward = float(good and rng.random() < 0.8)
                tree.add(node((root, 0, i), after, [4], parent_at=1, status=DONE, reward=reward))
        reward_L, valid_L = rewards(tree.freeze())
        plain.append(reward_L.mean())
        corrected.append(float((reward_L * sibling_weights(tree.freeze(), valid_L)).sum()))
    spread = math.sqrt(np.var(corrected) / len(corrected))
    assert abs(np.mean(corrected) - 0.4) < 4 * spread
    assert np.mean(plain) > 0.5
