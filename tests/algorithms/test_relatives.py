"""How each relative differs from GRPO: on a crafted tree, in exactly the way its paper says, and in nothing else."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from credit_toys import DONE, crafted, flat_group, gradient, two_step_episodes
from rollout_toys import build, node

from algorithms import Algorithm, make
from algorithms.advantages import Credit, Scores, rewards
from algorithms.losses import LossInputs
from algorithms.losses.aggregation import path_scales
from algorithms.losses.clip import ClipLoss
from algorithms.rewards import OverlongPenalty, mixed_success, unequal_rewards, with_terms
from algorithms.tree import NO_PARENT, RolloutTree, Status
from arpo_envs.errors import ConfigError

GRPO = make("grpo")
FLAT = flat_group(np.array([1.0, 0.0, 2.0]))
DEVIATION = np.sqrt(2 / 3)


def lasts(algorithm: Algorithm, *trees: RolloutTree, scores: Scores = Scores()) -> list[list[float]]:
    """The advantage of each leaf's last token."""
    return [[float(row[-1]) for row in rows] for rows in algorithm.credit(trees, scores).advantages]


def same(one: Credit, two: Credit) -> bool:
    pairs = zip((*one.advantages, *one.weights), (*two.advantages, *two.weights), strict=True)
    return all(np.allclose(a, b, atol=1e-6) for rows in pairs for a, b in zip(*rows, strict=True))


def slope(algorithm: Algorithm, ratio: float, advantage: float) -> float:
    """The gradient of one token's loss to its log-probability."""
    import torch

    logp = torch.tensor([[np.log(ratio)]]).requires_grad_()
    flat = torch.zeros(1, 1, dtype=logp.dtype)
    algorithm.loss(LossInputs(logp, flat, flat + advantage, flat + 1.0)).loss_BT.sum().backward()
    assert logp.grad is not None
    return logp.grad.item()


# --- the same credit, another tree --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arpo", "random_branching", "fixed_branching"])
def test_arpo_and_its_controls_differ_in_branching_alone(name: str) -> None:
    algorithm = make(name)
    assert (algorithm.advantages, algorithm.loss, algorithm.aggregation) == (GRPO.advantages, GRPO.loss, GRPO.aggregation)
    assert algorithm.branching.forks
    assert not GRPO.branching.forks


def test_hard_attribution_gives_a_shared_token_the_mean_of_its_leaves() -> None:
    soft, hard = (make("arpo", attribution=a).credit([crafted()]) for a in ("soft", "hard"))
    a, b = (rows[1] for rows in soft.advantages[0][:2])
    assert [rows[1] for rows in hard.advantages[0][:2]] == pytest.approx([(a + b) / 2] * 2)
    assert hard.advantages[0][2][1:].tolist() == soft.advantages[0][2][1:].tolist()


def test_a_shared_token_counts_once_if_asked_to() -> None:
    twice, once = (make("arpo", shared_once=o) for o in (False, True))
    shared = [gradient(crafted(), one.credit([crafted()]), ClipLoss())[1] for one in (twice, once)]
    private = [gradient(crafted(), one.credit([crafted()]), ClipLoss())[8] for one in (twice, once)]
    # 10 tokens with, 8 without copies; the shared one has advantage −√1.5 in all, or half of it
    assert shared == pytest.approx([np.sqrt(1.5) / 10, np.sqrt(1.5) / 2 / 8], rel=1e-4)
    assert private == pytest.approx([-np.sqrt(1.5) / 10, -np.sqrt(1.5) / 8], rel=1e-4)


def test_the_released_arpo_divides_by_a_samples_deviation_and_bounds_bad_tokens() -> None:
    released = make("arpo", implementation="reference")
    assert lasts(released, FLAT)[0] == pytest.approx([0.0, -1.0, 1.0], abs=1e-5)
    assert (slope(released, 4.0, -1.0), slope(GRPO, 4.0, -1.0)) == (0.0, pytest.approx(4.0))
    assert (slope(released, 2.0, -1.0), slope(GRPO, 2.0, -1.0)) == (pytest.approx(2.0), pytest.approx(2.0))


# --- another scale or baseline ------------------------------------------------------------------------------


def test_dr_grpo_divides_neither_by_the_deviation_nor_by_lengths() -> None:
    close = flat_group(np.array([0.1, 0.0, 0.2]))
    assert lasts(GRPO, FLAT, close)[0] == pytest.approx(lasts(GRPO, FLAT, close)[1], abs=1e-4)
    mine = lasts(make("dr_grpo"), FLAT, close)
    assert mine[0] == pytest.approx([10 * a for a in mine[1]])
    assert mine[0] == pytest.approx([DEVIATION * a for a in lasts(GRPO, FLAT)[0]], abs=1e-5)
    for other in (5.0, 500.0):  # a token's share does not depend on the other paths of the batch
        assert path_scales([50.0, other], make("dr_grpo").aggregation) == [1 / 6000] * 2
        assert path_scales([50.0, other], GRPO.aggregation) == [1 / (50 + other)] * 2


def test_rloo_is_unscaled_and_has_no_clip() -> None:
    rloo = make("rloo", rollouts=3)
    assert lasts(rloo, FLAT)[0] == pytest.approx([1.5 * DEVIATION * a for a in lasts(GRPO, FLAT)[0]], abs=1e-5)
    assert (slope(rloo, 1.5, 1.0), slope(GRPO, 1.5, 1.0)) == (-1.0, 0.0)
    assert path_scales([2.0, 6.0], rloo.aggregation) == [0.5, 0.5], "tokens are added up"
    assert slope(make("rloo", clip=0.2), 1.5, 1.0) == 0.0


def test_reinforce_plus_plus_compares_with_the_batch_and_not_with_the_group() -> None:
    good = flat_group(np.array([2.0, 2.0, 2.0]))
    assert lasts(GRPO, FLAT, good)[1] == [0.0] * 3
    mine = lasts(make("reinforce_plus_plus", rollouts=3, kl=0.0), FLAT, good)
    assert mine[1] == pytest.approx([mine[0][2]] * 3), "the same reward is worth the same in every group"
    assert mine[1][0] > 0.0
    assert sum(map(sum, mine)) == pytest.approx(0.0, abs=1e-6)


def test_reinforce_plus_plus_with_baseline_keeps_groups_centred_but_not_scaled() -> None:
    close = flat_group(np.array([0.1, 0.0, 0.2]))
    mine = lasts(make("reinforce_plus_plus_baseline"), FLAT, close)
    assert mine[0] == pytest.approx([10 * a for a in mine[1]], abs=1e-6)
    assert sum(mine[0]) == pytest.approx(0.0, abs=1e-6)
    assert make("reinforce_plus_plus_baseline").loss == ClipLoss(0.2, 0.2, 1e-3, estimator="k2")


# --- another clip -------------------------------------------------------------------------------------------


def test_dapo_clips_higher_on_the_good_side_only() -> None:
    dapo = make("dapo")
    assert same(dapo.credit([FLAT]), GRPO.credit([FLAT])), "short paths are not punished"
    assert (slope(dapo, 1.25, 1.0), slope(GRPO, 1.25, 1.0)) == (pytest.approx(-1.25), 0.0)
    assert slope(dapo, 0.75, -1.0) == slope(GRPO, 0.75, -1.0) == 0.0


def test_dapo_keeps_what_teaches_and_punishes_length() -> None:
    dapo = make("dapo", overlong=(6, 4))  # free up to 2 tokens, −1 from 6 on
    tree = build(
        node((), NO_PARENT, [1] * 9),
        node((0,), 0, [2] * 2, status=DONE, reward=1.0, success=1.0),
        node((1,), 0, [2] * 5, status=DONE, reward=1.0, success=1.0),
        node((2,), 0, [2] * 8, status=DONE, reward=1.0, success=1.0),
    )
    shaped = with_terms([tree], dapo.reward_terms)[0]
    assert [shaped.total_reward(leaf) for leaf in shaped.leaves()] == [1.0, 0.25, 0.0]
    assert [tree.total_reward(leaf) for leaf in tree.leaves()] == [1.0] * 3, "the tree itself stays as it is"
    assert lasts(dapo, tree) == lasts(GRPO, shaped)
    assert dapo.keep is not None
    assert not dapo.keep(tree), "all are right, whatever their lengths"
    tree.nodes[2] = replace(tree.nodes[2], success=0.0)
    assert dapo.keep(tree)
    assert dapo.refills == 9


def test_filters() -> None:
    assert unequal_rewards(crafted())
    assert not unequal_rewards(crafted((1.0, 1.0, 1.0)))
    assert not unequal_rewards(crafted((1.0, 0.0, 1.0), (DONE, Status.TOOL_FAULT, DONE))), "a failure is no reward"
    assert not unequal_rewards(crafted(statuses=(Status.TOOL_FAULT,) * 3))
    assert mixed_success(crafted()), "without known successes, rewards decide"
    assert make("arpo", skip_equal=True).keep is make("grpo", skip_equal=True).keep is unequal_rewards
    assert make("arpo").keep is None


@pytest.mark.parametrize(
    ("successes", "kept"),
    [((1.0, None, 1.0, None), True), ((0.0, None), False), ((1.0, 1.0), False), ((None, None), False)],
)
def test_a_path_without_an_answer_counts_as_not_successful(successes: tuple[float | None, ...], kept: bool) -> None:
    ends = [
        node((i,), 0, [2], status=Status.TRUNCATED if success is None else DONE, reward=success, success=success)
        for i, success in enumerate(successes)
    ]
    failed = node((len(ends),), 0, [2], status=Status.TOOL_FAULT)
    assert mixed_success(build(node((), NO_PARENT, [1]), *ends, failed)) == kept


@pytest.mark.parametrize("numbers", [(6, 0), (4, 6)])
def test_an_overlong_penalty_without_sense_is_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="0 < cache <= longest"):
        OverlongPenalty(*numbers)


def test_gspo_looks_at_paths_and_grpo_at_tokens() -> None:
    import torch

    gspo = make("gspo")
    assert same(gspo.credit([FLAT]), GRPO.credit([FLAT]))
    ratios = torch.tensor([[4.0, 0.25]]).log()
    inputs = LossInputs(ratios, torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2))
    assert gspo.loss(inputs).metrics["clipped"].tolist() == [[0.0, 0.0]], "they cancel"
    assert GRPO.loss(inputs).metrics["clipped"].tolist() == [[1.0, 0.0]]
    assert gspo.aggregation == "sequence"


def test_cispo_and_aepo_keep_the_gradients_that_grpo_drops() -> None:
    cispo, aepo = make("cispo"), make("aepo")
    assert same(cispo.credit([FLAT]), GRPO.credit([FLAT]))
    for ratio, advantage in ((1.5, 1.0), (0.5, -1.0)):
        assert slope(GRPO, ratio, advantage) == 0.0
        assert slope(cispo, ratio, advantage) == pytest.approx(-ratio * advantage)
    assert slope(aepo, 1.5, 1.0) == pytest.approx(-1.2)
    assert slope(aepo, 0.5, -1.0) == 0.0


def test_aepo_shifts_credit_towards_uncertain_tokens() -> None:
    """And leaves it alone where all tokens are equally uncertain."""
    aepo = make("aepo")
    assert same(aepo.credit([FLAT]), GRPO.credit([FLAT]))
    ends = [
        node((i,), 0, [2, 3], status=DONE, reward=r, entropies=e)
        for i, (r, e) in enumerate([(1.0, (0.1, 0.9)), (0.0, (0.9, 0.1))])
    ]
    tree = build(node((), NO_PARENT, [1]), *ends)
    mine, theirs = (one.credit([tree]).advantages[0] for one in (aepo, GRPO))
    for a, b, end in zip(mine, theirs, ends, strict=True):
        assert (a / b)[1:].tolist() == pytest.approx([0.8 if h < 0.5 else 1.2 for h in end.entropies], abs=1e-5)


# --- credit inside a path -----------------------------------------------------------------------------------


def test_gigpo_adds_a_comparison_where_a_state_recurs_and_nowhere_else() -> None:
    tree = two_step_episodes()
    plain = make("dr_grpo").credit([tree]).advantages[0]
    mine = make("gigpo", discount=0.5).credit([tree]).advantages[0]
    differs = [[not np.isclose(a, b) for a, b in zip(x, y, strict=True)] for x, y in zip(mine, plain, strict=True)]
    assert [(row[1], row[3]) for row in differs] == [(True, True), (True, False), (False, False)]
    assert same(make("gigpo").credit([FLAT]), make("dr_grpo").credit([FLAT])), "no anchors, no steps"


def test_tree_grpo_adds_the_comparison_within_the_tree() -> None:
    tree = crafted()
    added = np.array(lasts(make("tree_grpo"), tree)[0]) - np.array(lasts(GRPO, tree)[0])
    assert added.tolist() == pytest.approx([1.0, -1.0, 0.0], abs=1e-5)
    assert same(make("tree_grpo").credit([FLAT]), GRPO.credit([FLAT]))


def test_tree_rl_and_spo_credit_a_prefix_by_what_it_led_to() -> None:
    """A leaf that failed after a good call: GRPO blames the call for it, the values of the tree do not."""
    tree = crafted((2.0, 0.0, 0.0))  # the call is worth 1, the prompt 2/3
    on_b = {name: make(name).credit([tree]).advantages[0][1] for name in ("grpo", "tree_rl", "spo_tree")}
    assert on_b["grpo"][1] == on_b["grpo"][-1] < 0
    assert on_b["tree_rl"][1] == pytest.approx(2 / 3 / np.sqrt(2))
    assert on_b["tree_rl"][-1] == pytest.approx(-2 / 3 - 1)
    assert on_b["spo_tree"][1] == pytest.approx(1 - 0.5)
    assert on_b["spo_tree"][-1] == -1.0


def test_without_forks_the_values_of_the_tree_are_the_centred_reward() -> None:
    centred = np.array(lasts(make("dr_grpo"), FLAT)[0])
    assert lasts(make("spo_tree"), FLAT)[0] == pytest.approx(centred.tolist())
    assert lasts(make("tree_rl"), FLAT)[0] == pytest.approx((2 * centred).tolist()), "global and local are the same"
    assert lasts(make("tree_po"), FLAT)[0] == pytest.approx((centred / DEVIATION).tolist(), abs=1e-6)


def test_spo_masks_what_was_certain_and_counts_shared_tokens_once() -> None:
    weights = make("spo_tree").credit([crafted()]).weights[0]
    assert [row.tolist() for row in weights[:2]] == [[0, 0.5, 0.5, 0, 1, 1], [0, 0.5, 0.5, 0, 0]]
    assert [row.tolist() for row in GRPO.credit([crafted()]).weights[0][:2]] == [[0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 1]]


def test_tree_po_lies_between_the_whole_group_and_the_fork() -> None:
    """A good leaf among good siblings gets less than a good leaf among bad ones."""
    reward = (1.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    nodes = [node((), NO_PARENT, [1])]
    for root in range(2):
        nodes += [node((root,), 0, [2], tool="count"), node((root, 0), len(nodes), [3], kind="observation")]
        after = len(nodes) - 1
        nodes += [node((root, 0, i), after, [4], status=DONE, reward=reward[3 * root + i]) for i in range(3)]
    tree = build(*nodes)
    grpo, mine = lasts(GRPO, tree)[0], lasts(make("tree_po"), tree)[0]
    assert grpo[0] == grpo[3]
    assert mine[3] > mine[0] > 0
    assert sum(mine) == pytest.approx(0.0, abs=1e-6)


def test_ppo_asks_the_value_head_and_not_the_group() -> None:
    ppo = make("ppo", discount=1.0, trace=1.0)
    tree = flat_group(np.array([1.0, 1.0]))
    assert lasts(GRPO, tree)[0] == [0.0, 0.0]
    told: Any = ((np.array([0.0, 0.0, 0.2, 0.6]), np.array([0.0, 0.0, 0.8, 0.9])),)
    credit = ppo.credit([tree], Scores(values=told))
    raw = np.array([0.8, 0.4, 0.2, 0.1])  # what came, minus what was expected
    given = np.concatenate([row[2:] for row in credit.advantages[0]])
    assert given.tolist() == pytest.approx(((raw - raw.mean()) / raw.std()).tolist())
    assert credit.returns is not None
    assert np.concatenate([row[2:] for row in credit.returns[0]]).tolist() == pytest.approx([1.0] * 4)
    assert ppo.needs == {"values"}


# --- the options of group comparison ------------------------------------------------------------------------


def test_baselines_change_what_a_leaf_is_compared_with() -> None:
    reward_L, _ = rewards(crafted())
    found = {name: lasts(make("arpo", baseline=name), crafted())[0] for name in ("leaves", "tree", "siblings")}
    assert found["leaves"] == lasts(GRPO, crafted())[0]
    assert found["tree"] == pytest.approx([1.0, -1.0, 0.0], abs=1e-5)
    assert found["siblings"] == pytest.approx(((reward_L - 1.25) / np.sqrt(0.6875)).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("aggregation", "scales"),
    [("token", [1 / 10] * 3), ("sequence", [1 / 12, 1 / 9, 1 / 9]), (8, [1 / 24] * 3)],
)
def test_aggregations_divide_the_same_tokens_differently(aggregation: Any, scales: list[float]) -> None:
    algorithm = make("arpo", aggregation=aggregation)
    sums = [float(row.sum()) for row in algorithm.credit([crafted()]).weights[0]]
    assert sums == [4.0, 3.0, 3.0]
    assert path_scales(sums, algorithm.aggregation) == pytest.approx(scales)


def test_aggregation_of_nothing_is_zero_and_nonsense_is_refused() -> None:
    for aggregation in ("token", "sequence", 5):
        assert path_scales([0.0, 0.0], aggregation) == [0.0, 0.0]  # type: ignore[arg-type]
        assert path_scales([], aggregation) == []  # type: ignore[arg-type]
    for nonsense in ("mean", 0, -1, True, 2.5):
        with pytest.raises(ConfigError, match='"token", "sequence" or a number'):
            path_scales([1.0], nonsense)  # type: ignore[arg-type]
