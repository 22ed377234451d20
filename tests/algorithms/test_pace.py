"""The rate at which forks fit the horizon: by hand, as laws, and against trees that are drawn."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.branching.pace import log_expected_paths, spreading_alpha
from arpo_envs.errors import ConfigError

PATHS = st.lists(st.lists(st.floats(-3, 3), max_size=6), min_size=1, max_size=6)
GROWTH = st.floats(1.0, 8.0)


def grown(paths, alpha: float, beta: float, siblings: int = 1) -> float:
    """The mean over paths of Π (1 + Z·clip(alpha + beta·ΔH)), as it is written."""
    products = [math.prod(1 + siblings * min(1.0, max(0.0, alpha + beta * change)) for change in path) for path in paths]
    return sum(products) / len(products)


@pytest.mark.parametrize(
    ("paths", "growth", "beta", "siblings", "alpha"),
    [
        ([[0.0]], 1.5, 0.2, 1, 0.5),  # 1 + p = 1.5
        ([[0.0, 0.0]], 2.25, 0.2, 1, 0.5),  # (1 + p)² = 2.25
        ([[0.0] * 20], 2.0, 0.2, 1, 2 ** (1 / 20) - 1),
        ([[0.0, 0.0]], 2.25, 0.2, 2, 0.25),  # (1 + 2p)² = 2.25
        ([[0.0], [0.0] * 3], 2.4375, 0.2, 1, 0.5),  # (1.5 + 1.5³) / 2; a path of the mean length would need 0.561
        ([[], [0.0]], 1.25, 0.2, 1, 0.5),  # a path without a result never forks
        ([[1.0, -1.0]], 1.65, 0.2, 1, 0.3),  # 1.5 · 1.1
        ([[2.0, 2.0]], 1.21, 0.2, 1, -0.3),  # entropy alone would fork with 0.4: (1 − 0.3 + 0.4)²
        ([[-5.0, 0.0]], 1.5, 0.2, 1, 0.5),  # at the first result the probability is cut off at 0
        ([[5.0, 0.0]], 2.2, 0.2, 1, 0.1),  # and here at 1: 2 · 1.1
        ([[1.0, 0.0]], 1.0, 0.2, 1, -0.2),  # nothing to fork: the largest alpha that never does
    ],
)
def test_golden_values(paths, growth, beta, siblings, alpha) -> None:
    assert spreading_alpha(paths, growth=growth, beta=beta, siblings=siblings) == pytest.approx(alpha, abs=1e-9)


def test_where_even_a_fork_after_every_result_is_not_enough_every_result_forks() -> None:
    assert spreading_alpha([[0.0]], growth=3.0, beta=0.2) == 1.0
    assert spreading_alpha([[-1.0, 0.0]], growth=5.0, beta=0.2) == 1.2, "clip(1.2 − 0.2) = 1"
    assert spreading_alpha([[], []], growth=2.0, beta=0.2) == 1.0


@given(PATHS, GROWTH, st.floats(-0.5, 0.5), st.integers(1, 3))
def test_as_many_forks_are_expected_as_the_budget_allows(paths, growth, beta, siblings) -> None:
    alpha = spreading_alpha(paths, growth=growth, beta=beta, siblings=siblings)
    most = sum((1.0 + siblings) ** len(path) for path in paths) / len(paths)
    assert grown(paths, alpha, beta, siblings) == pytest.approx(min(growth, most), rel=1e-6)


@settings(max_examples=40)
@given(PATHS, GROWTH, GROWTH, st.floats(-0.5, 0.5))
def test_a_larger_budget_never_forks_more_seldom(paths, one, other, beta) -> None:
    alphas = [spreading_alpha(paths, growth=growth, beta=beta) for growth in sorted((one, other))]
    assert alphas == sorted(alphas)


@settings(max_examples=40)
@given(PATHS.filter(any), GROWTH, st.floats(-2, 2))
def test_entropy_that_rises_everywhere_is_made_up_for(paths, growth, more) -> None:
    def probabilities(paths) -> list[float]:
        alpha = spreading_alpha(paths, growth=growth, beta=0.2)
        return [min(1.0, max(0.0, alpha + 0.2 * change)) for path in paths for change in path]

    risen = [[change + more for change in path] for path in paths]
    assert probabilities(risen) == pytest.approx(probabilities(paths), abs=1e-9)


def test_the_length_of_a_path_overflows_nothing() -> None:
    assert spreading_alpha([[0.0] * 20_000], growth=2.0, beta=0.2) == pytest.approx(math.log(2) / 20_000, rel=1e-3)
    assert log_expected_paths(np.ones((1, 20_000))) == pytest.approx(20_000 * math.log(2))


def test_trees_that_are_drawn_have_as_many_forks() -> None:
    """N = 4 roots are to become M = 12 paths in C = 8 results, at which ΔH is −1, 0 or 2 nats, whatever it was before.

    The paths at result t are a Galton-Watson process with m = 1 + p children in the mean and variance p (1 − p), where p is
    the mean probability. With C generations its variance is N·p (1 − p)·m^(C−1)·(m^C − 1)/(m − 1). The mean of n trees
    deviates from M by more than four of its standard deviations in one of 16,000 experiments (a normal law; n is large).
    """
    roots, rollouts, results, trees = 4, 12, 8, 20_000
    changes, rng = np.array([-1.0, 0.0, 2.0]), np.random.default_rng(11)
    alpha = spreading_alpha([*map(list, product(changes, repeat=results))], growth=rollouts / roots, beta=0.2)
    alive = np.full(trees, roots)
    for _ in range(results):
        drawn = rng.multinomial(alive, [1 / 3] * 3)
        alive += rng.binomial(drawn, np.clip(alpha + 0.2 * changes, 0.0, 1.0)).sum(axis=1)
    chance = float(np.clip(alpha + 0.2 * changes, 0.0, 1.0).mean())
    grows = 1 + chance
    variance = roots * chance * (1 - chance) * grows ** (results - 1) * (grows**results - 1) / chance
    assert abs(alive.mean() - rollouts) <= 4 * math.sqrt(variance / trees) < 0.15
    assert grows**results == pytest.approx(rollouts / roots), (
        "ΔH does not depend on the past here, so that only its mean counts"
    )


def test_trees_with_paths_of_very_different_lengths_do_too() -> None:
    """Each root ends after 1 or 12 results, decided when the second one is due: siblings that started earlier decide anew."""
    alpha, rng, trees = spreading_alpha([[0.0], [0.0] * 12], growth=2.0, beta=0.0), np.random.default_rng(12), 40_000
    alive = np.ones(trees, dtype=np.int64) + rng.binomial(1, alpha, trees)
    ended = rng.binomial(alive, 0.5)
    alive -= ended
    for _ in range(11):
        alive += rng.binomial(alive, alpha)
    total = alive + ended
    # at most two paths go on, each becoming at most 2¹¹, but nearly always few: the sample's own deviation is the bound
    assert abs(total.mean() - 2.0) <= 4 * total.std() / math.sqrt(trees) < 0.05


@pytest.mark.parametrize(("growth", "beta", "siblings"), [(0.9, 0.2, 1), (math.inf, 0.2, 1), (2.0, math.nan, 1), (2.0, 0.2, 0)])
def test_numbers_out_of_range_are_refused(growth, beta, siblings) -> None:
    with pytest.raises(ConfigError, match="must be at least 1 and beta finite"):
        spreading_alpha([[0.0]], growth=growth, beta=beta, siblings=siblings)


def test_what_is_no_path_is_refused() -> None:
    for paths in ([], [[math.nan]], [[math.inf]]):
        with pytest.raises(ValueError, match="at least one path, and finite changes"):
            spreading_alpha(paths, growth=2.0, beta=0.2)
    for shape in ((0, 3), (3,)):
        with pytest.raises(ValueError, match=r"shape \[paths, results\]"):
            log_expected_paths(np.zeros(shape))
    with pytest.raises(ValueError, match="expected probabilities"):
        log_expected_paths(np.array([[1.5]]))
