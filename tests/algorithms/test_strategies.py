"""Where the relatives' trees grow: each strategy by hand, then grown with the scripted player."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from credit_toys import DONE, E
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import Coin, CountTool, Plan, build, calls_then_answer, grow, node, results, statuses, varied

from algorithms.branching import (
    Bernoulli,
    BranchingStrategy,
    BranchPoint,
    EntropyBranching,
    FixedBranching,
    Grow,
    NoBranching,
    Threshold,
)
from algorithms.branching.balanced import BalancedBranching, global_paths, monitored_entropies
from algorithms.branching.entropy_tree import EntropyTree
from algorithms.branching.expansion import RandomExpansion, nodes_by_root, per_tree_and_round
from algorithms.branching.reference import ReferenceBranching
from algorithms.branching.segments import SegmentBranching, continuations, place_of, shared_out
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.tree import NO_PARENT, RolloutTree, Status
from arpo_envs.errors import ConfigError

RNG = np.random.default_rng
BOTH = pytest.mark.parametrize("mode", ["deterministic", "free"])
STRATEGIES: list[Any] = [
    FixedBranching(2),
    ReferenceBranching(2),
    BalancedBranching(),
    RandomExpansion(2),
    EntropyTree(2),
    SegmentBranching((2, 2), 5),
]


def origins(tree: RolloutTree) -> Counter[str]:
    """How the paths came to be."""
    return Counter(n.origin for n in tree.nodes if n.origin)


def forks(tree: RolloutTree, index: int) -> int:
    """In how many ways a node goes on."""
    return sum(n.parent == index for n in tree.nodes)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_strategies_have_the_members_of_the_protocol_and_fill_any_budget(strategy: Any) -> None:
    assert isinstance(strategy, BranchingStrategy)
    for rollouts in (3, 7):
        (tree,) = grow(plan=Plan(strategy, rollouts), script=varied)
        assert len(tree.leaves()) == rollouts or isinstance(strategy, SegmentBranching | EntropyTree)
        (again,) = grow(plan=Plan(strategy, rollouts), script=varied)
        assert tree == again


@pytest.mark.parametrize(
    "strategy", [s for s in STRATEGIES if s.keeps == "action"] + [FixedBranching(2)], ids=lambda s: type(s).__name__
)
def test_arrival_shapes_no_tree_that_grows_by_plan(strategy: Any) -> None:
    for seed in range(3):
        fixed, free = (grow(plan=Plan(strategy, 8), script=varied, seed=seed, mode=m) for m in ("deterministic", "free"))
        assert fixed == free


# --- fixed --------------------------------------------------------------------------------------------------


@BOTH
def test_fixed_branching_forks_where_it_always_does(mode: str) -> None:
    (tree,) = grow(plan=Plan(FixedBranching(2, at=(2,)), 4), script=calls_then_answer(3), mode=mode)
    assert origins(tree) == {"root": 2, "branch": 2}
    assert [tree.depth(i) for i, n in enumerate(tree.nodes) if n.origin == "branch"] == [2, 2]
    assert tree.tool_calls()[:2] == (3 + 3 + 1 + 1, 2 + 2)


def test_fixed_branching_at_every_call_is_a_full_tree() -> None:
    (tree,) = grow(plan=Plan(FixedBranching(1, at=(1, 2), siblings=1), 4), script=calls_then_answer(2))
    assert origins(tree) == {"root": 1, "branch": 3}
    assert tree.tool_calls() == (3, 5, 0)


# --- what a branch point tells ------------------------------------------------------------------------------


def test_forks_in_a_row_are_counted_along_the_path() -> None:
    class Alternate(Coin):
        def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
            self.seen.append(point)
            return int(point.tool_calls in (1, 2, 4))

    coin = Alternate(1)
    grow(plan=Plan(coin, 8), script=calls_then_answer(5))
    by_calls: dict[int, set[int]] = {}
    for seen in coin.seen:
        by_calls.setdefault(seen.tool_calls, set()).add(seen.consecutive)
    assert by_calls == {1: {0}, 2: {1}, 3: {2}, 4: {0}, 5: {1}}, "the same for who forked and who was forked off"


def test_a_fork_that_the_budget_forbids_is_none_in_a_row() -> None:
    coin = Coin(1, 1.0)
    grow(plan=Plan(coin, 2), script=calls_then_answer(4))
    assert [seen.consecutive for seen in coin.seen if seen.tool_calls > 1] == [1, 1, 0, 0, 0, 0]


def ramp(before: str, seed: int) -> list[float]:
    """Entropies that say where they come from: 100 per result before the action."""
    return [100.0 * results(before)] * 60


def test_a_branch_point_shows_the_actions_since_the_path_began() -> None:
    coin = Coin(1, 1.0)
    grow(plan=Plan(coin, 2), script=ScriptedPolicy(calls_then_answer(3), ramp))
    shown = {(seen.tool_calls, seen.key): [action[0] for action in seen.actions] for seen in coin.seen}
    assert sorted((calls, *firsts) for (calls, _), firsts in shown.items()) == [
        (1, 0.0),
        (2, 0.0, 100.0),  # the root, which knows its first action
        (2, 100.0),  # the fork, which began after the first result
        (3, 0.0, 100.0, 200.0),
        (3, 100.0, 200.0),
    ]


# --- ARPO as released ---------------------------------------------------------------------------------------


def point(*actions: tuple[float, ...], **fields: Any) -> BranchPoint:
    values = {"key": (1, 0), "tool_calls": 1, "forks": 0, "baseline": (9.0,), "probe": (9.0,), "left": 9}
    return BranchPoint(**(values | {"vocabulary_size": 100, "actions": actions} | fields))


def share(strategy: BranchingStrategy, at: BranchPoint, draws: int = 3000) -> float:
    return sum(strategy.on_result(at, RNG(i)) for i in range(draws)) / draws


def test_the_reference_looks_at_sums_before_the_call_and_never_behind_the_result() -> None:
    strategy = ReferenceBranching(2, Bernoulli(0.5, 0.2), tokens=3)
    assert share(strategy, point((1.0,) * 9)) == pytest.approx(0.5, abs=0.04), "ΔH = 0 at the first result"
    change = (3 * 2.0 - 3 * 1.0) / math.log(100)
    at = point((1.0,) * 9, (0.0,), (2.0,) * 9)
    assert share(strategy, at) == pytest.approx(0.5 + 0.2 * change, abs=0.04)
    short = (2.0 - 3 * 1.0) / math.log(100)  # a short action has a small sum
    assert share(strategy, point((1.0,) * 9, (2.0,))) == pytest.approx(0.5 + 0.2 * short, abs=0.04)
    again = [strategy.on_result(point((1.0,) * 9, probe=(0.0,), baseline=()), RNG(i)) for i in range(50)]
    assert again == [strategy.on_result(point((1.0,) * 9), RNG(i)) for i in range(50)]


def test_each_sibling_of_the_reference_is_drawn_by_itself() -> None:
    counts = Counter(ReferenceBranching(2, siblings=2).on_result(point((1.0,)), RNG(i)) for i in range(400))
    assert set(counts) == {0, 1, 2}
    assert counts[1] > counts[0] > 50


def test_the_reference_backfills_one_by_one_and_backfilled_paths_fork_too() -> None:
    strategy = ReferenceBranching(1, Bernoulli(0.5, 0.0))
    started: list[int] = []

    def count(before: str, seed: int) -> str:
        started.append(results(before))
        return calls_then_answer(1)(before, seed)

    seen = Counter[str]()
    for seed in range(12):
        (tree,) = grow(plan=Plan(strategy, 5), script=count, seed=seed)
        assert len(tree.leaves()) == 5
        seen += origins(tree)
        for i, n in enumerate(tree.nodes):
            seen["fork of a backfill"] += n.origin == "backfill" and forks(tree, i + 1) > 1
    assert seen["fork of a backfill"] > 0


# --- AEPO ---------------------------------------------------------------------------------------------------


def test_the_budget_is_split_by_entropies() -> None:
    assert global_paths(2.0, 2.0, budget=16, balance=0.5) == 8
    assert global_paths(3.0, 1.0, budget=16, balance=0.5) == int(16 / (1 + math.exp(-1))) == 11
    assert global_paths(1.0, 3.0, budget=16, balance=0.5) == int(16 / (1 + math.exp(1))) == 4
    assert (global_paths(-99, 99, budget=16, balance=1.0), global_paths(99, -99, budget=16, balance=1.0)) == (1, 15)


def test_what_the_first_path_shows() -> None:
    tree = build(
        node((), NO_PARENT, [1]),
        node((0,), 0, [2, 3, 4], entropies=(1.0, 2.0, 9.0), tool="count"),
        node((0, 0), 1, [5], kind=E),
        node((0, 0, 0), 2, [6, 7], entropies=(4.0, 6.0), tool="count"),
        node((0, 0, 0, 0), 3, [5], kind=E),
        node((0, 0, 0, 0, 0), 4, [6], entropies=(3.0,), status=DONE),
        freeze=False,
    )
    assert monitored_entropies(tree, 2) == (1.5, (5.0 + 3.0) / 2)
    mistaken = replace(tree, nodes=[*tree.nodes])
    mistaken.nodes[1] = replace(tree.nodes[1], tool="", tool_status="mistake")
    assert monitored_entropies(mistaken, 2) == (1.5, 3.0), "what follows a mistake follows no tool result"
    alone = build(node((), NO_PARENT, [1]), node((0,), 0, [2], entropies=(0.75,), status=DONE), freeze=False)
    assert monitored_entropies(alone, 2) == (0.75, 0.75)
    uneven = node((0,), 0, range(5), entropies=(2.0**25, *(1.0,) * 4), status=DONE)
    mean, _ = monitored_entropies(build(node((), NO_PARENT, [1]), uneven, freeze=False), 9)
    assert mean == (2**25 + 4) / 5, "added up in double precision"
    mute = build(node((), NO_PARENT, [1]), node((0,), 0, [], status=Status.POLICY_FAULT), freeze=False)
    assert monitored_entropies(mute, 2) == (0.0, 0.0)


@BOTH
@pytest.mark.parametrize("budget", ["shared", "per_root"])
def test_aepo_watches_one_path_then_starts_roots_that_fork(mode: str, budget: str) -> None:
    strategy = BalancedBranching(Bernoulli(1.0, 0.0), penalty=0.0, probe=4)
    (tree,) = grow(plan=Plan(strategy, 9), script=calls_then_answer(2), mode=mode, budget=budget)
    assert origins(tree) == {"root": 1 + 4, "branch": 4}  # the watched path, ⌊9/2⌋ roots, and what is left
    assert forks(tree, 2) == 1, "the watched path stays alone"
    calmer = ScriptedPolicy(calls_then_answer(2), lambda before, seed: [4.0 if results(before) == 0 else 0.0] * 60)
    (rooted,) = grow(plan=Plan(strategy, 9), script=calmer)
    assert origins(rooted) == {"root": 1 + int(9 / (1 + math.exp(-2))), "branch": 1}


def test_forks_in_a_row_make_the_next_one_rarer() -> None:
    strategy = BalancedBranching(Bernoulli(0.8, 0.0), penalty=0.25)
    for consecutive, wanted in ((0, 0.8), (1, 0.6), (2, 0.4), (4, 0.0), (9, 0.0)):
        assert share(strategy, point(consecutive=consecutive)) == pytest.approx(wanted, abs=0.04)
    rule = BalancedBranching(Threshold(0.6, 0.5, 0.1), penalty=0.1, probe=4)
    sure = {"probe": (3.0,), "baseline": (0.0,)}  # 0.5 + 0.1·3 = 0.8
    assert [rule.on_result(point(consecutive=n, **sure), RNG(0)) for n in range(4)] == [1, 1, 1, 0]


def test_without_a_penalty_aepo_decides_as_arpo_does() -> None:
    one, two = BalancedBranching(probe=4, penalty=0.0), EntropyBranching(2, probe=4)
    for i in range(60):
        at = point(probe=(0.1 * i,), baseline=(1.0,), consecutive=i % 5)
        assert one.on_result(at, RNG(i)) == two.on_result(at, RNG(i))


# --- Tree-GRPO ----------------------------------------------------------------------------------------------


def test_places_per_tree_and_round_follow_from_the_budget() -> None:
    assert per_tree_and_round(2 * (1 + 3 * 2), 2, 2) == 3
    with pytest.raises(ConfigError, match=r"rollouts = 7 cannot be grown evenly: .* take 2 \+ 2·N leaves.*e\.g\. 6"):
        per_tree_and_round(7, 2, 1)
    with pytest.raises(ConfigError, match=r"e\.g\. 4"):
        per_tree_and_round(2, 2, 1)
    with pytest.raises(ConfigError, match="at least 1"):
        per_tree_and_round(6, 2, 0)


@BOTH
def test_tree_grpo_expands_random_steps_of_every_tree(mode: str) -> None:
    tool = CountTool()
    (tree,) = grow(tool, Plan(RandomExpansion(2, picks=2), 6), script=calls_then_answer(3), mode=mode)
    assert origins(tree) == {"root": 2, "branch": 4}
    members = nodes_by_root(tree)
    assert [sum(tree.nodes[i].origin == "branch" for i in nodes) for nodes in members.values()] == [2, 2]
    starts = [tree.nodes[n.parent] for n in tree.nodes if n.origin == "branch"]
    assert all(start.kind == E for start in starts), "a step ends with its tool result"
    assert tool.opened == tool.closed


def test_later_rounds_may_expand_what_earlier_ones_added() -> None:
    depths = set()
    for seed in range(8):
        (tree,) = grow(plan=Plan(RandomExpansion(1, picks=2), 7), script=calls_then_answer(3), seed=seed)
        assert len(tree.leaves()) == 7
        for leaf in tree.leaves():
            depths.add(sum(tree.nodes[n].origin == "branch" for n, _ in tree.path(leaf)))
    assert 2 in depths


def test_a_chain_without_a_tool_result_is_joined_by_fresh_ones() -> None:
    (tree,) = grow(plan=Plan(RandomExpansion(2, picks=2), 6), script=calls_then_answer(0))
    assert origins(tree) == {"root": 2, "backfill": 4}


# --- TreeRL -------------------------------------------------------------------------------------------------


def growing() -> RolloutTree:
    """One chain: five tokens, a result, three tokens. Surprisal is highest at tokens 3 and, after the result, 0."""
    return build(
        node((), NO_PARENT, [1]),
        node((0,), 0, [2] * 5, logprobs=(-9.0, -1.0, -2.0, -7.0, -3.0), entropies=(0.0, 5.0, 1.0, 0.0, 0.0), tool="count"),
        node((0, 0), 1, [3, 3], kind=E),
        node((0, 0, 0), 2, [4] * 3, logprobs=(-6.0, -1.0, -1.0), entropies=(4.0, 0.0, 9.0), status=DONE),
        freeze=False,
    )


def test_the_most_uncertain_tokens_are_dropped_and_drawn_again() -> None:
    tree = growing()
    assert EntropyTree(1, 2, 3).plan(tree, 9, RNG(0)) == [Grow(1, 3, 3), Grow(2, 2, 3)]
    assert EntropyTree(1, 2, 1, "entropy").plan(tree, 9, RNG(0)) == [Grow(3, 2, 1), Grow(1, 1, 1)]


def test_a_token_is_not_forked_again_in_the_next_round() -> None:
    tree = growing()
    tree.add(node((0, 1), 1, [9] * 2, parent_at=3, logprobs=(-8.0, -4.0), status=DONE))
    tree.add(node((0, 0, 1), 2, [9], parent_at=2, logprobs=(-8.0,), status=Status.POLICY_FAULT))
    assert EntropyTree(1, 3, 1).plan(tree, 9, RNG(0)) == [Grow(4, 1, 1), Grow(1, 4, 1), Grow(1, 2, 1)]


@BOTH
def test_eptree_grows_the_published_tree(mode: str) -> None:
    def uneven(before: str, seed: int) -> list[float]:
        return [float((7 * i + seed) % 11) for i in range(60)]

    policy = ScriptedPolicy(calls_then_answer(2), uneven)
    places = per_tree_and_round(30, 6, 1, siblings=2)
    (tree,) = grow(plan=Plan(EntropyTree(6, places, 2, "entropy"), 30), script=policy, mode=mode)
    assert statuses(tree) == [Status.ANSWERED] * 30
    assert origins(tree) == {"root": 6, "branch": 24}
    inside = [n for n in tree.nodes if n.origin == "branch" and tree.nodes[n.parent].kind == "action"]
    assert inside, "forks lie inside actions"


def test_eptree_stops_where_nothing_is_left_to_fork() -> None:
    tree = build(node((), NO_PARENT, [1]), node((0,), 0, [2], status=DONE), freeze=False)
    assert EntropyTree(1, 9, 1).plan(tree, 5, RNG(0)) == [], "a fork before the first token would be another chain"


# --- segments: TreePO and SPO -------------------------------------------------------------------------------


def test_places_lie_before_the_next_sampled_token() -> None:
    tree = growing()
    assert place_of(tree, 2) == [(1, 2)]
    assert place_of(tree, 5) == [(2, 2)], "behind the tool result"
    assert place_of(tree, 6) == [(3, 1)]
    assert place_of(tree, 8) == [], "nothing comes after the last token"
    assert (continuations(tree, (1, 2)), continuations(tree, (2, 2))) == (1, 1)
    tree.add(node((0, 1), 1, [9], parent_at=2, status=DONE))
    assert continuations(tree, (1, 2)) == 2
    assert place_of(tree, 2) == [(1, 2)], "one place, two ways on"


def test_a_budget_too_small_is_shared_out_in_turn() -> None:
    missing = {(1, 2): 5, (2, 2): 1, (3, 1): 5}
    assert [grow.count for grow in shared_out(missing, 2)] == [1, 1]
    assert [grow.count for grow in shared_out(missing, 6)] == [3, 1, 2]
    assert [grow.count for grow in shared_out(missing, 99)] == [5, 1, 5]
    assert shared_out(missing, 0) == shared_out({}, 3) == []


def essay(before: str, seed: int) -> str:
    """A call and a long answer; every character depends on the seed."""
    if results(before) == 0:
        return f"<count>{seed % 10**6:06}</count>"
    return f"<think>{seed % 10**9:09}</think><answer>{seed % 3}</answer>"


def sampled_before(tree: RolloutTree, index: int) -> int:
    """How many sampled tokens precede a node."""
    return sum(sum(tree.nodes[n].sampled[:stop]) for n, stop in tree.path(index)[:-1])


@BOTH
def test_spo_grows_its_fixed_tree(mode: str) -> None:
    tool = CountTool()
    (tree,) = grow(tool, Plan(SegmentBranching((3, 2, 2), 10), 12), script=essay, mode=mode)
    assert len(tree.leaves()) == 12
    assert origins(tree) == {"root": 3, "branch": 3 + 6}
    assert Counter(sampled_before(tree, i) for i, n in enumerate(tree.nodes) if n.origin == "branch") == {10: 3, 20: 6}
    assert tool.opened == tool.closed


def test_spo_stays_smaller_where_paths_end_early_and_tree_po_falls_back() -> None:
    short = lambda before, seed: f"<answer>{seed % 9}</answer>"  # noqa: E731
    (tree,) = grow(plan=Plan(SegmentBranching((2, 2, 2), 12), 8), script=short)
    assert len(tree.leaves()) == 4, "18 tokens: a second segment, but no third"
    (filled,) = grow(plan=Plan(SegmentBranching((2, 2, 2), 12, fallback=True), 8), script=short)
    assert len(filled.leaves()) == 8
    assert origins(filled) == {"root": 2, "branch": 6}
    (alone,) = grow(plan=Plan(SegmentBranching((2, 2), 100, fallback=True), 5), script=short)
    assert origins(alone) == {"root": 2, "backfill": 3}, "without any segment, fresh paths"


@given(st.integers(1, 3), st.integers(2, 3), st.integers(4, 30), st.integers(2, 14), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_segment_trees_keep_their_shape(roots: int, fan_out: int, segment: int, budget: int, seed: int) -> None:
    strategy = SegmentBranching((roots, *(fan_out,) * 3), segment, fallback=True)
    (tree,) = grow(plan=Plan(strategy, max(budget, roots)), script=essay, seed=seed)
    assert len(tree.leaves()) == max(budget, roots)
    for i, n in enumerate(tree.nodes):
        if n.origin == "branch":
            assert sampled_before(tree, i) % segment == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedBranching(0), "at least 1"),
        (lambda: FixedBranching(1, at=()), "at must name tool calls"),
        (lambda: FixedBranching(1, at=(0,)), "counted from 1"),
        (lambda: FixedBranching(1, at=(1, 1)), "each once"),
        (lambda: ReferenceBranching(1, tokens=0), "tokens must be at least 1"),
        (lambda: BalancedBranching(probe=0), "at least 1"),
        (lambda: BalancedBranching(penalty=1.5), r"must lie in \[0, 1\]"),
        (lambda: RandomExpansion(1, picks=0), "at least 1"),
        (lambda: EntropyTree(1, 0), "places must be at least 1"),
        (lambda: EntropyTree(1, uncertainty="logits"), "uncertainty is"),
        (lambda: SegmentBranching((6,), 30), "two numbers or more"),
        (lambda: SegmentBranching((6, 1), 30), "not all 1"),
        (lambda: SegmentBranching((6, 6), 0), "at least 1 token"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_other_strategies_are_none_of_these() -> None:
    (tree,) = grow(plan=Plan(NoBranching(), 3), script=varied)
    assert origins(tree) == {"root": 3}
