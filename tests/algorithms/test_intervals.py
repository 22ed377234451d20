"""pass@k, intervals by resampling questions, and paired tests: golden values, brute force, and laws."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.evaluation import bootstrap_intervals, paired_difference, pass_at_k, wilson
from algorithms.evaluation.paired import mcnemar, sign_flip

unit = st.sampled_from([0.0, 0.25, 0.5, 1.0])
questions = st.dictionaries(st.sampled_from("abcdefgh"), st.lists(unit, min_size=1, max_size=3), min_size=1)


# --- pass@k -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", range(1, 8))
def test_pass_at_k_is_the_share_of_sets_with_a_right_answer(samples: int) -> None:
    for right in range(samples + 1):
        answers = [1] * right + [0] * (samples - right)
        for k in range(1, samples + 1):
            sets = list(itertools.combinations(answers, k))
            assert pass_at_k(samples, right, k) == pytest.approx(sum(map(any, sets)) / len(sets), abs=1e-15)


@pytest.mark.parametrize(
    ("samples", "right", "k", "expected"),
    [
        (10, 3, 1, 0.3),
        (10, 3, 5, 1 - 21 / 252),
        (200, 1, 100, 0.5),
        (200, 0, 100, 0.0),
        (5, 3, 3, 1.0),
        (4000, 1, 2000, 0.5),  # binomial coefficients here have 1,200 digits
        (1_000_000, 1, 1, 1e-6),
    ],
)
def test_pass_at_k_by_hand(samples: int, right: int, k: int, expected: float) -> None:
    assert pass_at_k(samples, right, k) == pytest.approx(expected, rel=1e-15, abs=0)


@given(st.integers(1, 300), st.data())
def test_pass_at_k_lies_between_its_bounds_and_grows(samples: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    found = pass_at_k(samples, right, k)
    assert 0.0 <= found <= 1.0
    product = 1.0 - np.prod(1.0 - k / np.arange(samples - right + 1, samples + 1))  # as HumanEval's script computes it
    assert found == pytest.approx(product if k <= samples - right else 1.0, abs=1e-9)
    assert found >= 1 - (1 - right / samples) ** k - 1e-12, "the common power is biased downwards"
    if k < samples:
        assert pass_at_k(samples, right, k + 1) >= found
    if right < samples:
        assert pass_at_k(samples, right + 1, k) >= found


@pytest.mark.parametrize(("samples", "right", "k"), [(3, 1, 0), (3, 1, 4), (3, 4, 1), (3, -1, 1), (0, 0, 1)])
def test_pass_at_k_refuses_what_cannot_be(samples: int, right: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"must lie between|can be right"):
        pass_at_k(samples, right, k)


# --- intervals --------------------------------------------------------------------------------------------------------


@given(questions)
def test_an_interval_stays_among_the_means_of_questions_unless_it_is_wilsons(values: dict[str, list[float]]) -> None:
    low, high = bootstrap_intervals({"x": values}, resamples=200)["x"]
    assert 0.0 <= low <= high <= 1.0
    means = [float(np.mean(own)) for own in values.values()]
    if (low, high) != wilson(sum(means), len(means)):
        assert min(means) - 1e-12 <= low <= high <= max(means) + 1e-12


@given(questions, st.integers(0, 5))
def test_it_is_a_function_of_the_values_and_the_seed(values: dict[str, list[float]], seed: int) -> None:
    turned = dict(reversed(values.items()))
    one, other = (bootstrap_intervals({"x": given}, seed=seed, resamples=50) for given in (values, turned))
    assert one == other
    beside = bootstrap_intervals({"y": {"a": [0.5]}, "x": values}, seed=seed, resamples=50)
    assert set(beside) == {"x", "y"}


def test_answers_of_one_question_stay_together() -> None:
    apart = {f"{q}{sample}": [float(q % 2)] for q in range(20) for sample in range(8)}
    together = {f"{q}": [float(q % 2)] * 8 for q in range(20)}
    wide, narrow = (bootstrap_intervals({"x": values})["x"] for values in (together, apart))
    # 20 questions, not 160 answers: the standard error is √8 = 2.8 times as large
    assert 2.2 < (wide[1] - wide[0]) / (narrow[1] - narrow[0]) < 3.4


def test_it_has_the_width_of_the_standard_error() -> None:
    rng = np.random.default_rng(3)
    values = {str(q): list(rng.normal(size=2)) for q in range(400)}
    low, high = bootstrap_intervals({"x": values})["x"]
    error = np.std([np.mean(own) for own in values.values()]) / math.sqrt(400)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_most_intervals_contain_the_truth() -> None:
    """With 60 clusters of 4, resampled intervals contain it in a little under 95% of cases: 60 fixed seeds."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        chances = rng.beta(2, 2, size=60)  # mean 0.5
        values = {str(q): [float(x) for x in rng.random(4) < chance] for q, chance in enumerate(chances)}
        low, high = bootstrap_intervals({"x": values}, seed=seed, resamples=300)["x"]
        held += low <= 0.5 <= high
    assert held >= 50


def test_groups_keep_their_sizes() -> None:
    values = {f"easy{n}": [1.0, 0.9] for n in range(10)} | {f"hard{n}": [0.0, 0.1] for n in range(10)}
    strata = {question: question[:4] for question in values}
    low, high = bootstrap_intervals({"x": values}, strata)["x"]
    assert (low, high) == pytest.approx((0.5, 0.5)), "all differences are between the groups"
    low, high = bootstrap_intervals({"x": values})["x"]
    assert high - low > 0.3


@pytest.mark.parametrize("right", [0, 20])
def test_where_nothing_varies_the_interval_is_wilsons_over_the_questions(right: int) -> None:
    values = {str(q): [float(q < right)] * 4 for q in range(20)}
    assert bootstrap_intervals({"x": values})["x"] == wilson(right, 20)


def test_a_single_answer_of_right_or_wrong_has_wilsons_interval() -> None:
    assert bootstrap_intervals({"x": {str(q): [float(q < 7)] for q in range(10)}})["x"] == wilson(7, 10)


def test_means_that_differ_by_a_rounding_are_the_same() -> None:
    values = {"a": [-1.0, 0.1, 0.2, 0.3], "b": [0.3, 0.2, 0.1, -1.0], "c": [0.3, 0.1, 0.2, -1.0]}
    assert len({float(np.mean(own)) for own in values.values()}) > 1
    low, high = bootstrap_intervals({"reward": values})["reward"]
    assert high - low > 0.5


def test_values_that_are_no_shares_have_no_interval_of_a_proportion_though_their_means_could_be_shares() -> None:
    half = 1.96 * math.sqrt(4 / 3) / math.sqrt(2)  # the deviation of -1, 1, 1, -1, over two questions
    for middle in (0.0, 7.0):
        values = {"a": [middle - 1, middle + 1], "b": [middle + 1, middle - 1]}
        assert bootstrap_intervals({"x": values})["x"] == pytest.approx((middle - half, middle + half))
    assert bootstrap_intervals({"x": {"a": [-1.0, 1.0]}})["x"] == (-math.inf, math.inf), "one question says nothing of others"
    assert bootstrap_intervals({"x": {"a": [2.0], "b": [2.0]}})["x"] == (2.0, 2.0)


def test_a_question_without_values_says_nothing() -> None:
    values: dict[str, list[float]] = {"a": [0.0, 1.0], "b": [1.0, 1.0], "c": []}
    low, high = bootstrap_intervals({"x": values})["x"]
    assert (low, high) == (0.5, 1.0)
    with pytest.raises(ValueError, match="There is no value of 'x'"):
        bootstrap_intervals({"x": {"a": []}})


# --- paired tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (6, 0, 2 / 64), (1, 7, 2 * (1 + 8) / 256), (2, 8, 2 * (1 + 10 + 45) / 1024), (5, 5, 1.0)],
)
def test_mcnemar_by_hand(better: int, worse: int, p: float) -> None:
    assert mcnemar(better, worse) == mcnemar(worse, better) == pytest.approx(p, rel=1e-12)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), max_size=9))
def test_the_permutation_test_is_brute_force(differences: list[float]) -> None:
    total = abs(sum(differences))
    flips = [abs(sum(map(math.prod, zip(signs, differences, strict=True)))) for signs in
             itertools.product((-1, 1), repeat=len(differences))]  # fmt: skip
    assert sign_flip(differences) == pytest.approx(sum(flip >= total for flip in flips) / len(flips))
    assert sign_flip([-value for value in differences]) == sign_flip(differences)


def test_with_many_differences_flips_are_drawn_and_agree_with_the_exact_test() -> None:
    differences = [1.0] * 14 + [-1.0] * 6
    exact = mcnemar(14, 6)  # the same test, as all differences have one size: p = 0.115
    assert sign_flip(differences, seed=1) == pytest.approx(exact, abs=0.02)
    assert sign_flip([1.0] * 40) == pytest.approx(1 / 20_001), "never 0"


@given(questions, st.data())
def test_turned_around_a_difference_only_changes_its_sign(one: dict[str, list[float]], data: st.DataObject) -> None:
    other = {question: data.draw(st.lists(unit, min_size=1, max_size=3)) for question in one}
    there, back = (paired_difference(*sides, resamples=60) for sides in ((one, other), (other, one)))
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low), abs=1e-12)
    assert (back.p, back.better, back.worse) == (pytest.approx(there.p), there.worse, there.better)
    assert there.questions == len(one)
    assert -1.0 <= there.low <= there.high <= 1.0
    assert 0.0 < there.p <= 1.0


@given(questions)
def test_nothing_differs_from_itself(values: dict[str, list[float]]) -> None:
    found = paired_difference(values, values)
    assert (found.mean, found.p, found.better, found.worse) == (0.0, 1.0, 0, 0)
    assert found.low == -found.high < 0.0, "but a few questions do not show that there is no difference"


def test_pairing_sees_what_two_intervals_hide() -> None:
    hard = {str(q): [float(q % 2)] for q in range(100)}
    lost = {str(q) for q in range(1, 16, 2)}
    other = {question: [0.0] if question in lost else own for question, own in hard.items()}
    found = paired_difference(hard, other)
    assert (found.mean, found.test, found.better, found.worse) == (pytest.approx(0.08), "mcnemar", 8, 0)
    assert found.p == pytest.approx(2 / 256)
    assert 0.0 < found.low < 0.08 < found.high
    assert wilson(50, 100)[0] < wilson(42, 100)[1], "the two intervals overlap"


def test_several_answers_per_question_are_one_difference() -> None:
    found = paired_difference({"a": [1.0, 0.0], "b": [1.0, 1.0]}, {"a": [0.0, 0.0], "b": [1.0, 0.0]})
    assert (found.mean, found.test, found.p, found.better) == (0.5, "sign_flip", 0.5, 2)


def test_questions_that_one_side_could_not_answer_are_left_out() -> None:
    found = paired_difference({"a": [1.0], "b": []}, {"a": [0.0], "b": [1.0]})
    assert (found.questions, found.mean) == (1, 1.0)
    with pytest.raises(ValueError, match="No question has values on both sides"):
        paired_difference({"a": []}, {"a": [1.0]})
    with pytest.raises(ValueError, match="the same questions"):
        paired_difference({"a": [1.0]}, {"b": [1.0]})
