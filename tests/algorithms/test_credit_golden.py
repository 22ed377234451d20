"""Credit worked out by hand, on one tree of three leaves and on trees made for one question."""

import math
from unittest.mock import patch

import numpy as np
import pytest
from credit_toys import DONE, E, crafted, rows, two_step_episodes
from rollout_toys import build, node

from algorithms.advantages import Array, Credit, Scores, rewards
from algorithms.advantages.baseline import leaf_advantages, root_of_leaves, sibling_weights
from algorithms.advantages.entropy_aware import EntropyAware
from algorithms.advantages.gae import GeneralisedAdvantage, generalised_advantage
from algorithms.advantages.gigpo import GroupInGroup, steps_of
from algorithms.advantages.group import group_normalise
from algorithms.advantages.inter_intra import InterIntraTree
from algorithms.advantages.leave_one_out import LeaveOneOut, leave_one_out
from algorithms.advantages.node_values import node_values
from algorithms.advantages.paths import column, paid
from algorithms.advantages.segments import SegmentAdvantage
from algorithms.advantages.soft import SoftAttribution
from algorithms.advantages.subgroups import Subgroups
from algorithms.advantages.token_returns import TokenReturns
from algorithms.advantages.tree_rl import GlobalLocal
from algorithms.advantages.whitened_group import WhitenedGroup
from algorithms.advantages.whitening import whiten
from algorithms.tree import NO_PARENT, RolloutTree, Status
from arpo_envs.errors import ConfigError

D = math.sqrt(1.5)
TRUE = np.ones(3, dtype=bool)


def lasts(credit: Credit) -> list[float]:
    """The advantage of each leaf's last token."""
    return [row[-1] for row in credit.advantages[0]]


def shared(credit: Credit) -> list[float]:
    """The advantage of the shared call, on leaf a's path and on b's."""
    return [credit.advantages[0][0][1], credit.advantages[0][1][1]]


# --- leaf-level: one number per path -----------------------------------------------------------------------


def test_deviations_of_the_group() -> None:
    reward = np.array([1.0, 0.0, 2.0])
    assert group_normalise(reward, TRUE).tolist() == pytest.approx([0.0, -D, D], abs=1e-5)
    assert group_normalise(reward, TRUE, deviation="sample").tolist() == pytest.approx([0, -1, 1], abs=1e-5)
    assert group_normalise(reward, TRUE, deviation="none").tolist() == [0.0, -1.0, 1.0]
    weighted = group_normalise(reward, TRUE, weight_L=np.array([1.0, 1.0, 2.0]))
    scale = math.sqrt(0.25 * 0.25**2 + 0.25 * 1.25**2 + 0.5 * 0.75**2)
    assert weighted.tolist() == pytest.approx([-0.25 / scale, -1.25 / scale, 0.75 / scale], abs=1e-5)
    with pytest.raises(ValueError, match="equal weight"):
        group_normalise(reward, TRUE, weight_L=np.ones(3), deviation="sample")


def test_the_three_baselines() -> None:
    tree = crafted()
    assert leaf_advantages(tree, "leaves", "none").tolist() == [0.0, -1.0, 1.0]
    assert leaf_advantages(tree, "tree", "none").tolist() == [0.5, -0.5, 0.0]  # c has nobody in its tree
    assert leaf_advantages(tree, "siblings", "none").tolist() == [-0.25, -1.25, 0.75]  # baseline ((1 + 0)/2 + 2)/2
    assert sibling_weights(tree, TRUE).tolist() == [0.25, 0.25, 0.5]
    assert sibling_weights(tree, np.array([True, False, True])).tolist() == [0.5, 0.0, 0.5]
    assert root_of_leaves(tree)[0] == root_of_leaves(tree)[1] != root_of_leaves(tree)[2]


def test_rloo() -> None:
    assert leave_one_out(np.array([1.0, 0.0, 2.0]), TRUE).tolist() == [0.0, -1.5, 1.5]
    assert leave_one_out(np.array([1.0, 0.0, 2.0]), np.array([True, False, False])).tolist() == [0.0, 0.0, 0.0]
    assert lasts(LeaveOneOut()([crafted()], Scores())) == [0.0, -1.5, 1.5]


def reference(tree: RolloutTree, below: float) -> Scores:
    """A reference model that finds every token less likely by so many nats."""
    return Scores(reference=(tuple(column(tree, leaf, "logprobs") - below for leaf in tree.leaves()),))


def test_rloo_with_a_penalty_in_the_reward() -> None:
    tree = crafted()  # a has 4 sampled tokens, b and c have 3: rewards 1 − 0.4, 0 − 0.3, 2 − 0.3
    credit = LeaveOneOut(kl=0.1)([tree], reference(tree, 1.0))
    assert lasts(credit) == pytest.approx([0.6 - 0.7, -0.3 - 1.15, 1.7 - 0.15])
    with pytest.raises(ConfigError, match="'reference' in the algorithm's `needs`"):
        LeaveOneOut(kl=0.1)([tree], Scores())


def test_tree_grpo() -> None:
    credit = InterIntraTree()([crafted()], Scores())
    assert lasts(credit) == pytest.approx([0.0 + 1.0, -D - 1.0, D + 0.0], abs=1e-5)
    assert shared(credit) == pytest.approx([1.0, -D - 1.0], abs=1e-5)


# --- whitened over the batch -------------------------------------------------------------------------------


def test_whitening() -> None:
    value = [[np.array([1.0, 50.0, 3.0])], [np.array([5.0])]]
    weight = [[np.array([1.0, 0.0, 1.0])], [np.array([2.0])]]
    done = whiten(value, weight)  # mean (1 + 3 + 2·5)/4 = 3.5, variance (6.25 + 0.25 + 2·2.25)/4 = 2.75
    scale = math.sqrt(2.75)
    assert done[0][0].tolist() == pytest.approx([-2.5 / scale, 0.0, -0.5 / scale])
    assert done[1][0].tolist() == pytest.approx([1.5 / scale])
    nothing = whiten([[np.array([1.0])]], [[np.array([0.0])]])
    assert nothing[0][0].tolist() == [0.0]
    assert whiten([], []) == ()


def test_reinforce_plus_plus() -> None:
    credit = TokenReturns()([crafted()], Scores())  # tokens: 4 × 1, 3 × 0, 3 × 2; mean 1, variance 0.6
    scale = math.sqrt(0.6)
    assert credit.advantages[0][2].tolist() == pytest.approx([0.0, *[1 / scale] * 3])
    assert credit.advantages[0][1].tolist() == pytest.approx([0.0, -1 / scale, -1 / scale, 0.0, -1 / scale])
    assert lasts(credit) == pytest.approx([0.0, -1 / scale, 1 / scale])
    raw = raw_returns(TokenReturns(discount=0.5), crafted(), Scores())
    assert raw[2] == [0.0, 0.5, 1.0, 2.0]
    assert raw[0] == [0.0, 0.125, 0.25, 0.0, 0.5, 1.0]  # the tool result takes no time


def raw_returns(estimator: TokenReturns, tree: RolloutTree, scores: Scores) -> list[list[float]]:
    """What the estimator whitens."""
    with patch("algorithms.advantages.token_returns.whiten", side_effect=lambda value, weight: value):
        return [row.round(9).tolist() for row in estimator([tree], scores).advantages[0]]


def test_reinforce_plus_plus_with_a_penalty() -> None:
    tree = crafted()
    raw = raw_returns(TokenReturns(kl=0.1), tree, reference(tree, 2.0))  # −0.2 for each sampled token from here on
    assert raw[2] == pytest.approx([0.0, 1.4, 1.6, 1.8])
    assert raw[0] == pytest.approx([0.0, 0.2, 0.4, 0.0, 0.6, 0.8])


def test_reinforce_plus_plus_baseline() -> None:
    easy = crafted((0.1, 0.0, 0.2))
    credit = WhitenedGroup()([crafted(), easy], Scores())  # centred 0, −1, 1 on 4, 3, 3 tokens; a tenth of that beside it
    scale = math.sqrt((0.6 + 0.006) / 2)
    assert lasts(credit) == pytest.approx([0.0, -1 / scale, 1 / scale])
    assert credit.advantages[1][2][-1] == pytest.approx(0.1 / scale)


def test_tree_po() -> None:
    scale = math.sqrt(0.463125)  # a: (0 + .5)/2, b: (−1 − .5)/2, c: 1 on 4, 3, 3 tokens: mean .175
    credit = Subgroups()([crafted()], Scores())
    assert lasts(credit) == pytest.approx([(0.25 - 0.175) / scale, (-0.75 - 0.175) / scale, (1 - 0.175) / scale])
    values = [(3 * 0 + 2 * 0.5) / 5, (3 * -1 + 2 * -0.5) / 5, 1.0]
    mean = (4 * values[0] + 3 * values[1] + 3 * values[2]) / 10
    sized = lasts(Subgroups("size")([crafted()], Scores()))
    spread = math.sqrt((4 * (values[0] - mean) ** 2 + 3 * (values[1] - mean) ** 2 + 3 * (values[2] - mean) ** 2) / 10)
    assert sized == pytest.approx([(v - mean) / spread for v in values])


# --- values of the tree ------------------------------------------------------------------------------------


def test_node_values() -> None:
    leaves, branches = node_values(crafted()), node_values(crafted(), over="branches")
    assert leaves.value_N.tolist() == [1.0, 0.5, 0.5, 1.0, 0.0, 2.0]
    assert branches.value_N.tolist() == [1.25, 0.5, 0.5, 1.0, 0.0, 2.0]
    assert leaves.leaves_N.tolist() == [3, 2, 2, 1, 1, 1]
    assert leaves.fork_N.tolist() == [0, 0, 0, 2, 2, 0]
    assert branches.deviation_N.tolist() == [0.75, 0.0, 0.5, 0.0, 0.0, 0.0]


def test_a_failed_branch_is_no_branch() -> None:
    nodes = node_values(crafted(statuses=(DONE, Status.TOOL_FAULT, DONE)))
    assert nodes.value_N.tolist() == [1.5, 1.0, 1.0, 1.0, 0.0, 2.0]
    assert nodes.fork_N[3] == 0
    assert nodes.leaves_N.tolist() == [2, 1, 1, 1, 0, 1]


def test_tree_rl() -> None:
    credit = GlobalLocal()([crafted()], Scores())
    assert shared(credit) == pytest.approx([-1 / math.sqrt(2)] * 2)
    assert lasts(credit) == [0.5, -1.5, 2.0]


def test_spo_tree() -> None:
    credit = SegmentAdvantage(certain=1.0)([crafted()], Scores())
    assert rows(credit.advantages[0])[2] == [0, 0.75, 0.75, 0.75]
    assert shared(credit) == [-0.75, -0.75]
    assert lasts(credit) == [0.5, -0.5, 0.75]
    scaled = SegmentAdvantage("siblings", certain=1.0)([crafted()], Scores())
    assert lasts(scaled) == pytest.approx([1.0, -1.0, 1.0])
    assert shared(scaled) == pytest.approx([-1.0, -1.0])


def test_spo_trains_each_token_once_and_only_where_there_was_a_choice() -> None:
    # behaviour log-probabilities: −(t mod 7)/4; exp(−0.25) = 0.78 < 0.9, and token 7 was certain
    assert rows(SegmentAdvantage()([crafted()], Scores()).weights[0]) == [
        [0, 0.5, 0.5, 0, 1, 1],
        [0, 0.5, 0.5, 0, 0],
        [0, 1, 1, 1],
    ]
    assert rows(SegmentAdvantage(certain=0.7)([crafted()], Scores()).weights[0])[2] == [0, 0, 1, 1]


# --- step-level ---------------------------------------------------------------------------------------------


def test_gigpo() -> None:
    tree = two_step_episodes()
    episode = np.array([1.25, 0.25, 2.25]) - 1.25  # 0, −1, 1
    # returns with γ = ½: a: 0.75, 1; b: 0.25, 0; the state "s" holds a's 0.75 and 1 and b's 0.25, mean 2/3
    step = {"a": (0.75 - 2 / 3, 1 - 2 / 3), "b": (0.25 - 2 / 3, 0.0), "c": (0.0, 0.0)}
    credit = GroupInGroup(step_weight=2.0, discount=0.5)([tree], Scores())
    for base, (first, second), row in zip(episode, step.values(), credit.advantages[0], strict=True):
        assert row[1] == pytest.approx(base + 2 * first)
        assert row[3] == pytest.approx(base + 2 * second)


def test_gigpo_with_deviations() -> None:
    credit = GroupInGroup(discount=0.5, deviation="population")([two_step_episodes()], Scores())
    state = np.array([0.75, 1.0, 0.25])
    assert credit.advantages[0][0][3] == pytest.approx((1 - state.mean()) / state.std(), abs=1e-4)
    assert credit.advantages[0][1][1] == pytest.approx(-D + (0.25 - state.mean()) / state.std(), abs=1e-4)


def test_an_action_forked_inside_is_one_step() -> None:
    tree = RolloutTree()
    tree.add(node((), NO_PARENT, [1]))
    tree.add(node((0,), 0, [2, 3, 4], parent_at=1, anchor="s", status=DONE, reward=1.0))
    tree.add(node((0, 1), 1, [5], parent_at=2, anchor="s", status=DONE, reward=3.0))
    frozen = tree.freeze()
    assert [[(step.anchor, step.reward) for step in steps_of(frozen, leaf)] for leaf in frozen.leaves()] == [
        [("s", 1.0)],
        [("s", 3.0)],
    ]
    credit = GroupInGroup()([frozen], Scores())
    assert rows(credit.advantages[0]) == [[-1, -2, -2, -2], [1, 2, 2, 2]]


# --- per token ----------------------------------------------------------------------------------------------


def entropic() -> RolloutTree:
    """Two leaves of two tokens each, drawn with entropies 1, 3 and 2, 2."""
    ends = [
        node((0,), 0, [2, 3], status=DONE, reward=1.0, entropies=(1.0, 3.0)),
        node((1,), 0, [4, 5], status=DONE, reward=0.0, entropies=(2.0, 2.0)),
    ]
    return build(node((), NO_PARENT, [1]), *ends)


def test_aepo_shapes_by_entropy() -> None:
    credit = EntropyAware(0.2)([entropic()], Scores())
    z = 1 / math.sqrt(0.5)  # mean 2, variance (1 + 1)/4
    assert credit.advantages[0][0].tolist()[1:] == pytest.approx([1 - 0.2 * z, 1 + 0.2 * z], abs=1e-5)
    assert credit.advantages[0][1].tolist()[1:] == pytest.approx([-1.0, -1.0], abs=1e-5)


def test_generalised_advantages() -> None:
    reward, value = np.array([0.0, 0.0, 0.0, 1.0]), np.array([9.0, 0.5, 9.0, 0.25])
    sampled = np.array([0.0, 1.0, 0.0, 1.0])
    # δ_1 = 0 + 0.9·0.25 − 0.5 = −0.275, δ_3 = 1 − 0.25 = 0.75; A_1 = −0.275 + 0.9·0.5·0.75
    found = generalised_advantage(reward, value, sampled, discount=0.9, trace=0.5)
    assert found.tolist() == pytest.approx([0.0, -0.275 + 0.3375, 0.0, 0.75])
    nothing = generalised_advantage(reward, value, np.zeros(4), discount=0.9, trace=0.5)
    assert not nothing.any()


def test_ppo() -> None:
    tree = build(
        node((), NO_PARENT, [1]),
        node((0,), 0, [2, 3], status=DONE, reward=1.0),
        node((1,), 0, [4], status=DONE, reward=0.0),
    )
    scores = Scores(values=((np.array([9.0, 0.5, 0.25]), np.array([9.0, 0.5])),))
    credit = GeneralisedAdvantage(discount=1.0, trace=0.5)([tree], scores)
    raw = np.array([-0.25 + 0.5 * 0.75, 0.75, -0.5])  # λ = ½
    expected = (raw - raw.mean()) / raw.std()
    assert [*credit.advantages[0][0][1:], credit.advantages[0][1][1]] == pytest.approx(expected.tolist())
    assert credit.returns is not None
    assert credit.returns[0][0].tolist()[1:] == [0.625, 1.0]
    assert credit.returns[0][1].tolist()[1:] == [0.0]
    with pytest.raises(ConfigError, match="'values' in the algorithm's `needs`"):
        GeneralisedAdvantage()([tree], Scores())


def test_rewards_are_paid_where_they_were_earned() -> None:
    tree = build(
        node((), NO_PARENT, [1]),
        node((0,), 0, [2, 3], reward=0.25, tool="count"),
        node((0, 0), 1, [4], kind=E),
        node((0, 0, 0), 2, [], status=Status.CONTEXT_FULL, reward=-1.0),
    )
    (leaf,) = tree.leaves()
    assert paid(tree, leaf).tolist() == [0.0, 0.0, -0.75, 0.0]
    mute = build(node((), NO_PARENT, [1]), node((0,), 0, [], status=Status.CONTEXT_FULL, reward=-1.0))
    assert paid(mute, 1).tolist() == [0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftAttribution(baseline="mean"), "baseline must be"),
        (lambda: SoftAttribution(deviation="std"), "deviation must be"),
        (lambda: SoftAttribution(baseline="siblings", deviation="sample"), "not defined"),
        (lambda: GroupInGroup(step_weight=0.0), "without it GiGPO is 'grpo'"),
        (lambda: GroupInGroup(discount=1.1), r"discount must lie in \[0, 1\]"),
        (lambda: Subgroups("count"), "weigh must be"),
        (lambda: SegmentAdvantage("std"), "scale must be"),
        (lambda: SegmentAdvantage(certain=0.0), "certain must be a probability"),
        (lambda: EntropyAware(-0.1), "must not be negative"),
        (lambda: GeneralisedAdvantage(trace=1.5), r"lie in \[0, 1\]"),
    ],
)
def test_values_that_make_no_sense_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_a_failed_leaf_is_compared_with_nobody() -> None:
    tree = crafted((1.0, 99.0, 2.0), (DONE, Status.TOOL_TIMEOUT, DONE))
    reward_L, valid_L = rewards(tree)
    alone: Array = np.array([1.0, 2.0])
    assert leave_one_out(reward_L, valid_L)[valid_L].tolist() == (2 * (alone - alone.mean())).tolist()
    assert lasts(GlobalLocal()([tree], Scores()))[::2] == [-1.0, 1.0]
