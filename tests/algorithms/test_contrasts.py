"""What a comparison of few runs rests on: golden values worked by hand or from tables, and laws."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.evaluation import contrasts, interquartile_interval, interquartile_mean, over_cost, pairs_needed
from algorithms.evaluation.holm import holm
from algorithms.evaluation.student import expanded_tail, t_quantile

numbers = st.floats(-1e3, 1e3, allow_nan=False, width=32)
chances = st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=8)


def runs(*values: float, task: str = "task") -> dict:
    return {(task, seed): value for seed, value in enumerate(values)}


# --- the interquartile mean ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 6.0], 3.0),
        ([9.0, 1.0, 2.0, 4.0], 3.0),
        ([100.0, 1.0, 2.0, 3.0, -50.0], 2.0),
        ([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 4.0),
        ([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 90.0, 90.0], 1.5),
    ],
)
def test_interquartile_means_by_hand(values, mean):
    assert interquartile_mean(values) == mean


def test_every_row_has_a_mean_of_its_own():
    assert interquartile_mean([[1.0, 2.0, 3.0, 9.0], [0.0, 0.0, 4.0, 4.0]]).tolist() == [2.5, 2.0]


@given(st.lists(numbers, min_size=1, max_size=12), numbers, st.randoms(use_true_random=False))
def test_an_interquartile_mean_moves_with_its_values_whatever_their_order(values, shift, random):
    middle = float(interquartile_mean(values))
    assert min(values) - 1e-9 <= middle <= max(values) + 1e-9
    random.shuffle(values)
    assert float(interquartile_mean([value + shift for value in values])) == pytest.approx(middle + shift, abs=1e-6)


# --- Student's t ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "level", "t"),
    [(1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.9, 2.353), (4, 0.95, 2.776), (10, 0.99, 3.169), (30, 0.95, 2.042)],
)
def test_quantiles_of_students_t_are_those_of_the_tables(freedom, level, t):
    assert t_quantile(freedom, level) == pytest.approx(t, abs=5e-4)


def test_many_values_need_no_wider_percentiles():
    assert expanded_tail(2000, 1999) == pytest.approx(0.025, abs=1e-4)
    tails = [expanded_tail(count, count - 1) for count in range(2, 40)]
    assert tails == sorted(tails)
    with pytest.raises(ValueError, match="at least two values"):
        expanded_tail(1, 0)


# --- intervals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "strata"), [(5, 1), (8, 1), (5, 3)])
def test_intervals_hold_a_planted_effect_about_as_often_as_they_say(count, strata):
    rng, effect, held = np.random.default_rng(15), 0.3, []
    for trial in range(300):
        drawn = [rng.normal(effect, 0.1, size=count) for _ in range(strata)]
        low, high = interquartile_interval(drawn, seed=trial, resamples=2000)
        held.append(float(low <= effect <= high))
    assert 0.91 <= statistics.mean(held) <= 0.99


def test_strata_are_resampled_by_themselves():
    apart = [[0.0] * 6, [1.0] * 6]
    assert interquartile_interval(apart).tolist() == [0.5, 0.5], "no draw has more of one than of the other"
    low, high = interquartile_interval([[0.0] * 6 + [1.0] * 6])
    assert low < 0.5 < high


def test_a_single_run_has_no_interval_and_no_run_is_refused():
    assert interquartile_interval([[0.5]]).tolist() == [-math.inf, math.inf]
    assert interquartile_interval([np.zeros((3, 1))]).shape == (2, 3)
    for strata in ([], [[]], [[1.0], []]):
        with pytest.raises(ValueError, match="at least one run"):
            interquartile_interval(strata)


def test_entries_are_as_if_each_were_alone():
    cells = np.array([[0.1, 0.4, 0.2, 0.9, 0.3], [0.5, 0.1, 0.3, 0.2, 0.7]])
    together = interquartile_interval([cells])
    assert together.T.tolist() == [interquartile_interval([row]).tolist() for row in cells]


# --- Holm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_p", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(given_p, adjusted):
    assert holm(given_p) == pytest.approx(adjusted)


@given(chances)
def test_holm_keeps_the_order_never_lowers_a_p_and_lies_below_bonferroni(values):
    found = holm(values)
    for p, q in zip(values, found, strict=True):
        assert p <= q <= min(1.0, len(values) * p) + 1e-12
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.take(found, order)) >= 0)


@given(chances, st.integers(0, 7), st.floats(0, 1, allow_nan=False))
def test_holm_rises_with_each_p(values, place, higher):
    changed = list(values)
    changed[place % len(values)] = max(values[place % len(values)], higher)
    assert all(before <= after + 1e-12 for before, after in zip(holm(values), holm(changed), strict=True))


def test_what_is_no_p_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])


# --- curves over cost ----------------------------------------------------------------------------------------


def test_curves_by_hand():
    assert over_cost([10.0, 30.0], [0.0, 1.0], [0.0, 5.0, 15.0, 40.0]).tolist() == [0.0, 0.5, 1.0]
    assert over_cost([10.0, 0.0, 10.0], [0.0, 9.0, 1.0], [0.0, 20.0]).tolist() == [0.5], "what costs nothing does not count"


@given(st.lists(st.tuples(st.floats(0.5, 100), st.floats(-5, 5)), min_size=1, max_size=20), st.integers(1, 30))
def test_the_mean_of_a_curve_is_that_over_all_that_was_spent(steps, cells):
    costs, values = zip(*steps, strict=True)
    curve = over_cost(costs, values, np.linspace(0, math.fsum(costs), cells + 1))
    assert float(curve.mean()) == pytest.approx(np.average(values, weights=costs), abs=1e-9)
    assert min(values) - 1e-9 <= curve.min() <= curve.max() <= max(values) + 1e-9


@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=10), st.integers(2, 5))
def test_how_a_cost_is_cut_into_steps_makes_no_difference(costs, parts):
    values = [float(place) for place in range(len(costs))]
    edges = np.linspace(0, math.fsum(costs) * (1 - 1e-9), 9)
    finer = over_cost(np.repeat(costs, parts) / parts, np.repeat(values, parts), edges)
    assert finer == pytest.approx(over_cost(costs, values, edges), abs=1e-6)


@pytest.mark.parametrize("edges", [[0.0], [0.0, 0.0], [5.0, 0.0], [-1.0, 5.0], [0.0, 41.0]])
def test_edges_outside_of_what_was_spent_are_refused(edges):
    with pytest.raises(ValueError, match="Edges must rise"):
        over_cost([10.0, 30.0], [0.0, 1.0], edges)


@pytest.mark.parametrize(("costs", "values"), [([1.0], []), ([-1.0, 2.0], [0.0, 0.0])])
def test_steps_without_value_or_with_a_negative_cost_are_refused(costs, values):
    with pytest.raises(ValueError, match="one value and a cost"):
        over_cost(costs, values, [0.0, 1.0])


# --- contrasts -----------------------------------------------------------------------------------------------


def test_contrasts_by_hand():
    arpo, grpo, blind = runs(0.9, 0.8, 0.7, 0.6, 0.5), runs(0.8, 0.7, 0.6, 0.5, 0.4), runs(0.5, 0.9, 0.6, 0.7, 0.5)
    one, other = contrasts({"arpo": arpo, "grpo": grpo, "blind": blind})
    assert (one.first, one.other, one.pairs) == ("arpo", "grpo", 5)
    assert one.difference == pytest.approx(0.1)
    assert (one.low, one.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (one.p, one.adjusted) == (2 / 32, 4 / 32), "all five signs alike: 2 of 32, and Holm doubles the smaller one"
    assert other.difference == pytest.approx(0.0), "the middle of 0.4, −0.1, 0.1, −0.1, 0"
    assert other.low < 0 < other.high


def test_runs_are_paired_by_task_and_seed_not_by_place():
    one, other = runs(0.1, 0.5, 0.9), runs(0.0, 0.4, 0.8)
    turned = dict(reversed(other.items()))
    assert contrasts({"one": one, "other": turned}) == contrasts({"one": one, "other": other})
    with pytest.raises(ValueError, match="the same tasks and seeds"):
        contrasts({"one": one, "other": runs(0.0, 0.4)})
    with pytest.raises(ValueError, match="at least one"):
        contrasts({"one": {}, "other": {}})


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_turned_around_a_contrast_has_the_other_sign_and_the_same_p(pairs):
    one, other = (runs(*values) for values in zip(*pairs, strict=True))
    there, back = contrasts({"a": one, "b": other})[0], contrasts({"b": other, "a": one})[0]
    assert back.difference == pytest.approx(-there.difference, abs=1e-12)
    assert back.p == there.p


@pytest.mark.parametrize("comparisons", [1, 2, 3, 5])
def test_just_as_many_pairs_as_needed_show_what_is_always_there(comparisons):
    def smallest(pairs: int) -> float:
        arms = {f"arm{place}": runs(*[1.0 - (place > 0)] * pairs) for place in range(comparisons + 1)}
        return min(one.adjusted for one in contrasts(arms))

    needed = pairs_needed(comparisons)
    assert smallest(needed) <= 0.05 < smallest(needed - 1)
