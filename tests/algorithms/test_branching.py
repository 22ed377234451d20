"""When to fork: the entropy rule by hand, its two decisions, the probe and the baseline."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_toys import Coin, CountTool, Plan, calls_then_answer, grow, results

from algorithms.branching import (
    Bernoulli,
    BranchingStrategy,
    BranchPoint,
    EntropyBranching,
    Grow,
    NoBranching,
    RandomBranching,
    Threshold,
    entropy_change,
    roots_then_backfill,
)
from algorithms.policies import Generation
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.tree import RolloutTree
from arpo_envs.errors import ConfigError

RNG = np.random.default_rng


def point(probe: tuple[float, ...] = (), baseline: tuple[float, ...] = (), left: int = 9) -> BranchPoint:
    return BranchPoint((0, 0), 1, 0, baseline, probe, left, 100)


# --- the entropy change ------------------------------------------------------------------------------------


def test_golden_values_of_the_three_normalisations() -> None:
    probe, baseline = [2.0, 1.0, 9.0], [0.5, 0.5, 9.0, 9.0]
    change = {"tokens": 2, "vocabulary_size": 100}
    assert entropy_change(probe, baseline, **change) == pytest.approx(1.5 - 0.5)
    assert entropy_change(probe, baseline, normalisation="log_vocabulary", **change) == pytest.approx(1.0 / math.log(100))
    assert entropy_change(probe, baseline, normalisation="vocabulary", **change) == pytest.approx((1.5 + 0.5) / 100)


def test_sides_of_different_length_are_compared_by_their_means() -> None:
    assert entropy_change([1.0], [0.0, 0.5], tokens=20, vocabulary_size=10) == pytest.approx(0.75)
    # Eq. 4 adds up differences, which exist only where both sides have a token
    assert entropy_change([1.0], [0.0, 0.5], tokens=20, vocabulary_size=10, normalisation="vocabulary") == pytest.approx(0.1)


@pytest.mark.parametrize("normalisation", ["nats", "log_vocabulary", "vocabulary"])
def test_an_empty_side_changes_nothing(normalisation: str) -> None:
    change = {"tokens": 5, "vocabulary_size": 10, "normalisation": normalisation}
    assert entropy_change([], [1.0], **change) == entropy_change([1.0], [], **change) == 0.0


@given(st.lists(st.floats(0, 5), min_size=1, max_size=30), st.lists(st.floats(0, 5), min_size=1, max_size=30))
def test_log_vocabulary_lies_in_minus_one_to_one_and_changes_sign_when_swapped(
    probe: list[float], baseline: list[float]
) -> None:
    change = {"tokens": 20, "vocabulary_size": 150, "normalisation": "log_vocabulary"}
    there, back = entropy_change(probe, baseline, **change), entropy_change(baseline, probe, **change)
    assert -1.0 <= there <= 1.0
    assert there == pytest.approx(-back)


# --- the two rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [-9.0, -1.0, 0.0, 0.7, 1.5, 9.0])
def test_bernoulli_forks_as_often_as_it_says(change: float) -> None:
    rule, rng, draws = Bernoulli(0.5, 0.2), RNG(7), 4000
    wanted = min(1.0, max(0.0, 0.5 + 0.2 * change))
    share = sum(rule.forks(change, rng) for _ in range(draws)) / draws
    assert abs(share - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / draws)


def test_bernoulli_never_forks_at_zero_and_always_at_one() -> None:
    assert not any(Bernoulli(0.0, 0.0).forks(0.0, RNG(i)) for i in range(200))
    assert all(Bernoulli(1.0, 0.0).forks(0.0, RNG(i)) for i in range(200))


def test_threshold_is_strict_and_draws_nothing() -> None:
    rule, rng = Threshold(tau=0.6, alpha=0.5, beta=0.25), RNG(0)
    state = rng.bit_generator.state
    assert [rule.forks(change, rng) for change in (0.3, 0.4, 0.41, -5.0)] == [False, False, True, False]
    assert rng.bit_generator.state == state


def test_threshold_refuses_settings_in_which_beta_does_nothing() -> None:
    with pytest.raises(ConfigError, match=r"beta = 0.2 would do nothing"):
        Threshold(tau=0.5, alpha=0.5, beta=0.2)
    with pytest.raises(ConfigError, match="every decision the same"):
        Threshold(tau=0.6, beta=0.0)


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_is_a_probability(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha must be a probability"):
        Bernoulli(alpha)


# --- strategies --------------------------------------------------------------------------------------------


def test_entropy_branching_uses_its_rule_normalisation_and_siblings() -> None:
    uncertain, sure = point((2.0,) * 4, (0.0,) * 4), point((0.0,) * 4, (2.0,) * 4)
    strategy = EntropyBranching(2, Threshold(0.9, 0.5, 0.3), probe=4, siblings=3)
    assert strategy.on_result(uncertain, RNG(0)) == 3
    assert strategy.on_result(sure, RNG(0)) == 0
    scaled = EntropyBranching(2, Threshold(0.9, 0.5, 0.3), probe=4, siblings=3, normalisation="log_vocabulary")
    assert scaled.on_result(uncertain, RNG(0)) == 0, "0.5 + 0.3 * 2 / ln 100 = 0.63"


def test_random_branching_is_blind_to_entropy() -> None:
    strategy = RandomBranching(2, 0.5, 2)
    answers = [[strategy.on_result(p, RNG(i)) for i in range(300)] for p in (point(), point((9.0,), (0.0,)))]
    assert answers[0] == answers[1]
    assert set(answers[0]) == {0, 2}
    assert 100 < answers[0].count(2) < 200


def test_no_branching_never_forks() -> None:
    assert NoBranching().on_result(point((9.0,), (0.0,)), RNG(0)) == 0
    assert NoBranching().roots is None


@pytest.mark.parametrize(
    "strategy", [EntropyBranching(2), RandomBranching(2), NoBranching(), Coin(2)], ids=lambda s: type(s).__name__
)
def test_strategies_have_the_members_of_the_protocol(strategy: object) -> None:
    assert isinstance(strategy, BranchingStrategy)


def test_plans_start_the_roots_then_fill_up() -> None:
    (tree,) = grow(plan=Plan(NoBranching(), 1))
    empty = RolloutTree(nodes=[tree.nodes[0]])
    size = len(tree.nodes[0].tokens)
    assert roots_then_backfill(empty, 9, 4) == [Grow(0, size, 4)]
    assert roots_then_backfill(empty, 3, 4) == [Grow(0, size, 3)]
    assert roots_then_backfill(empty, 9, None) == [Grow(0, size, 9)]
    assert roots_then_backfill(tree, 5, 4) == [Grow(0, size, 5)]
    assert roots_then_backfill(tree, 0, 4) == []


@pytest.mark.parametrize("numbers", [{"roots": 0}, {"roots": 1, "probe": 0}, {"roots": 1, "siblings": 0}])
def test_entropy_branching_refuses_numbers_out_of_range(numbers: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        EntropyBranching(**numbers)


@pytest.mark.parametrize("numbers", [{"roots": 0}, {"roots": 1, "probability": 1.5}, {"roots": 1, "siblings": 0}])
def test_random_branching_refuses_numbers_out_of_range(numbers: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        RandomBranching(**numbers)  # type: ignore[arg-type]


# --- the probe ---------------------------------------------------------------------------------------------


def ramp(before: str, seed: int) -> list[float]:
    """Entropies that say where they come from: 100 per result before the action, 1 per token."""
    return [100.0 * results(before) + i for i in range(60)]


def test_the_probe_is_exactly_the_first_k_tokens_after_this_result() -> None:
    coin = Coin(1, 0.0, probe=4)
    grow(plan=Plan(coin, 1), script=ScriptedPolicy(calls_then_answer(2), ramp))
    assert [p.probe for p in coin.seen] == [(100.0, 101.0, 102.0, 103.0), (200.0, 201.0, 202.0, 203.0)]
    assert [p.tool_calls for p in coin.seen] == [1, 2]


def test_a_probe_that_ends_the_action_still_decides() -> None:
    coin = Coin(1, 1.0, probe=1000)
    (tree,) = grow(plan=Plan(coin, 2), script=ScriptedPolicy(calls_then_answer(1), ramp))
    assert len(coin.seen[0].probe) == len("<answer>1</answer>")
    assert [n.origin for n in tree.nodes if n.parent and n.kind == "action"][:2] == ["", "branch"]


def test_mistakes_are_no_tool_results_and_decide_nothing() -> None:
    coin = Coin(1, 1.0, probe=2)
    grow(plan=Plan(coin, 3), script=lambda before, seed: "oops" if results(before) < 2 else "<answer>1</answer>")
    assert coin.seen == []


def test_probe_and_continuation_are_one_node_equal_to_an_unprobed_action() -> None:
    def once(probe: int) -> list[tuple[object, ...]]:
        policy = ScriptedPolicy(calls_then_answer(3), ramp)
        (tree,) = grow(plan=Plan(Coin(2, 0.0, probe=probe), 2), script=policy)
        return [(n.key, n.tokens, n.sampled, n.logprobs, n.entropies, n.text, n.seed) for n in tree.nodes]

    assert once(0) == once(1) == once(5) == once(1000)


def test_siblings_start_before_the_probe() -> None:
    tool = CountTool()
    spied: list[tuple[str, int, int]] = []

    class Spy(ScriptedPolicy):
        async def generate(
            self, context: list[int], params: object, *, seed: int, offset: int = 0, tail: str = ""
        ) -> Generation:  # type: ignore[override]
            spied.append(("".join(map(chr, context)), seed, offset))
            return await super().generate(context, params, seed=seed, offset=offset, tail=tail)  # type: ignore[arg-type]

    coin = Coin(1, 1.0, 2, probe=3)
    (tree,) = grow(tool, Plan(coin, 3), Spy(calls_then_answer(1)))
    children = [n for n in tree.nodes if n.key[:-1] == (0, 0)]
    assert [n.origin for n in children] == ["", "branch", "branch"]
    assert {n.text for n in children} == {"<answer>1</answer>"}
    assert all(n.sampled == (True,) * len(n.tokens) for n in children), "a sibling draws its whole action"
    starts = [(context, offset) for context, seed, offset in spied if seed in {n.seed for n in children[1:]}]
    assert [(context.endswith("</result>"), offset) for context, offset in starts] == [(True, 0), (True, 0)]


# --- the baseline ------------------------------------------------------------------------------------------


def by_root(before: str, seed: int) -> list[float]:
    """First actions have entropies of their own seed; later ones are flat."""
    return [float(seed % 1000)] * 60 if results(before) == 0 else [5.0] * 60


def test_the_baseline_is_the_roots_and_is_inherited_by_forks_of_forks() -> None:
    coin = Coin(2, 1.0, 1, probe=2)
    (tree,) = grow(plan=Plan(coin, 9), script=ScriptedPolicy(calls_then_answer(4), by_root))
    roots = {n.key[0]: n for n in tree.nodes if n.parent == 0}
    assert len({n.entropies[0] for n in roots.values()}) == len(roots), "each root has its own"
    assert max(p.forks for p in coin.seen) >= 2, "there were forks of forks"
    for seen in coin.seen:
        assert seen.baseline == roots[seen.key[0]].entropies
        assert set(seen.probe) == {5.0}


def test_back_filled_roots_have_baselines_of_their_own() -> None:
    coin = Coin(1, 0.0, probe=2)
    (tree,) = grow(plan=Plan(coin, 4), script=ScriptedPolicy(calls_then_answer(1), by_root))
    roots = {n.key[0]: n for n in tree.nodes if n.parent == 0}
    assert [roots[i].origin for i in range(4)] == ["root", "backfill", "backfill", "backfill"]
    assert [p.baseline for p in coin.seen] == [roots[p.key[0]].entropies for p in coin.seen]
    assert len({p.baseline for p in coin.seen}) == 4


def test_a_first_action_that_was_a_mistake_is_still_the_baseline() -> None:
    coin = Coin(1, 0.0, probe=2)

    def script(before: str, seed: int) -> str:
        said = results(before)
        return "oops" if said == 0 else "<count>x</count>" if said == 1 else "<answer>1</answer>"

    grow(plan=Plan(coin, 1), script=ScriptedPolicy(script, ramp))
    assert [p.baseline for p in coin.seen] == [(0.0, 1.0, 2.0, 3.0)]


def test_what_a_strategy_is_told_about_budget_and_forks() -> None:
    coin = Coin(1, 1.0, 1)
    grow(plan=Plan(coin, 3), script=calls_then_answer(3))
    assert [p.left for p in coin.seen][:3] == [2, 1, 0]
    assert all(p.left >= 0 for p in coin.seen)
    assert {p.vocabulary_size for p in coin.seen} == {0x110000}
