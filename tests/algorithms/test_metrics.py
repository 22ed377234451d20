"""`summarise`, worked by hand on one small batch."""

import pytest
from rollout_toys import CountTool, Plan, build, calls_then_answer, grow, node

from algorithms.branching import NoBranching
from algorithms.evaluation import wilson
from algorithms.metrics import fork_depths, summarise
from algorithms.tree import Status


def leaf(key: tuple[int, ...], parent: int, reward: float, **fields):
    blank = {"reward": reward, "success": float(reward == 1.0), "status": Status.ANSWERED}
    return node(key, parent, [1], **(blank | fields))


def batch():
    """A tree with a fork after one call and a back-fill, and a tree of two equal answers."""
    first = build(
        node((), -1, [9, 9]),
        node((0,), 0, [1, 2], origin="root", tool="search", entropies=(1.0, 3.0), logprobs=(-1.0, -1.0)),
        node((0, 0), 1, [5, 5], kind="observation"),
        leaf((0, 0, 0), 2, 1.0, entropies=(2.0,)),
        leaf((0, 0, 1), 2, 0.0, origin="branch", entropies=(2.0,), replayed=2),
        node((1,), 0, [3], origin="backfill", tool="search", entropies=(0.0,)),
        node((1, 0), 5, [5], kind="observation"),
        leaf((1, 0, 0), 6, 0.0, status=Status.TRUNCATED, entropies=(4.0,)),
    )
    second = build(
        node((), -1, [9]),
        leaf((0,), 0, 0.0, origin="root", entropies=(1.0,)),
        leaf((1,), 0, 0.0, origin="root", entropies=(1.0,)),
        node((2,), 0, [], origin="root", status=Status.TOOL_FAULT),
    )
    return [first, second]


def test_a_batch_by_hand():
    assert summarise(batch()) == {
        "reward": pytest.approx(1 / 5),
        "success": pytest.approx(1 / 5),
        "entropy": pytest.approx((1 + 3 + 2 + 2 + 0 + 4 + 1 + 1) / 8),
        "sampled_tokens": 8.0,
        "executed_tool_calls_per_prompt": 1.0,
        "inherited_tool_calls_per_prompt": 0.5,
        "replayed_tool_calls_per_prompt": 1.0,
        "forks_per_prompt": 0.5,
        "fork_depth": 1.0,
        "backfills_per_prompt": 0.5,
        "equal_reward_groups": 0.5,
        "answered": pytest.approx(4 / 5),
        "stalled": 0.0,
        "failed_leaves": 1.0,
    }


def test_nothing_is_all_zeros_and_no_warning():
    assert set(summarise([]).values()) == {0.0}


def test_a_batch_of_failures_counts_only_them():
    failed = build(node((), -1, [9]), *(node((i,), 0, [], origin="root", status=Status.POLICY_FAULT) for i in range(2)))
    metrics = summarise([failed])
    assert metrics["failed_leaves"] == 2.0
    assert metrics["reward"] == metrics["success"] == metrics["answered"] == 0.0


def test_fork_depths_count_the_calls_that_a_fork_inherits():
    tree = build(
        node((), -1, [9]),
        node((0,), 0, [1], origin="root", tool="search"),
        node((0, 0), 1, [5], kind="observation"),
        node((0, 0, 0), 2, [1], tool="search"),
        node((0, 0, 0, 0), 3, [5], kind="observation"),
        leaf((0, 0, 0, 0, 0), 4, 0.0),
        leaf((0, 0, 0, 0, 1), 4, 0.0, origin="branch"),
        leaf((0, 0, 1), 2, 0.0, origin="branch"),
    )
    assert sorted(fork_depths([tree, tree])) == [1, 1, 2, 2]


def test_metrics_agree_with_what_the_tool_saw():
    tool = CountTool()
    metrics = summarise(grow(tool, Plan(NoBranching(), 3), calls_then_answer(2), prompts=2))
    assert metrics["executed_tool_calls_per_prompt"] * 2 == len(tool.journal) == 12
    assert metrics["success"] == 1.0


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (0, 0, 0.0, 1.0), (270, 300, 0.8608, 0.9291)],
)
def test_wilson_intervals_of_the_textbook(right, asked, low, high):
    assert wilson(right, asked) == pytest.approx((low, high), abs=1e-4)
