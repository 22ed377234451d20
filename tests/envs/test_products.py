"""The largest inner products: those of exact arithmetic, in one order, whatever multiplies."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.tools.search import products
from arpo_envs.tools.search.products import best, longest

BOTH = pytest.mark.parametrize("backend", products.BACKENDS)


def ranked(matrix: list[list[float]] | np.ndarray, query: list[float] | np.ndarray, count: int, backend: str) -> list[int]:
    found = np.ascontiguousarray(matrix, np.float32)
    (numbers,) = best(found, np.float32([query]), count, length=longest(found), backend=backend)
    return numbers


def exact(matrix: np.ndarray, query: np.ndarray) -> list[float]:
    """Products of 32 bits are exact in 64, and their sum is rounded once."""
    return [math.fsum(row.astype(np.float64) * query.astype(np.float64)) for row in matrix]


@BOTH
def test_by_hand_in_three_dimensions(backend: str) -> None:
    """With (3, 4, 0): 30, 8, 8, 1.8 and -4; the second and third are equal, so the second comes first."""
    matrix = [[10, 0, 0], [0, 2, 0], [0, 2, 7], [0.6, 0, 0.8], [0, -1, 0]]
    for count in range(1, 8):
        assert ranked(matrix, [3, 4, 0], count, backend) == [0, 1, 2, 3, 4][:count]
    assert ranked(matrix, [0, 0, 1], 3, backend) == [2, 3, 0]
    assert ranked(matrix, [-3, -4, 0], 5, backend) == [4, 3, 1, 2, 0]


WHOLE = st.integers(-3, 3)


@BOTH
@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(WHOLE, min_size=4, max_size=4), min_size=1, max_size=40),
    queries=st.lists(st.lists(WHOLE, min_size=4, max_size=4).filter(any), min_size=1, max_size=4),
    count=st.integers(1, 45),
    block=st.integers(1, 64),
)
def test_whole_numbers_rank_as_by_brute_force_and_equals_by_number(
    backend: str, rows: list[list[int]], queries: list[list[int]], count: int, block: int
) -> None:
    """However long blocks are. There are many equals among so few numbers."""
    matrix, asked = np.float32(rows), np.float32(queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_NUMBERS", block)
        patch.setattr(products, "_SPARE", 1)
        found = best(matrix, asked, count, length=longest(matrix), backend=backend)
    for numbers, query in zip(found, asked, strict=True):
        scores = matrix @ query
        assert numbers == sorted(range(len(rows)), key=lambda number: (-scores[number], number))[:count]


@pytest.mark.numeric
@BOTH
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-12, 1.0, 1e12]), width=st.sampled_from([1, 3, 33, 768]))
def test_real_numbers_rank_as_in_exact_arithmetic(backend: str, seed: int, scale: float, width: int) -> None:
    """Up to the last bits of 64; and copies of a vector, wherever they lie, have exactly its product."""
    rng = np.random.default_rng(seed)
    few = rng.standard_normal((30, width), np.float32) * np.float32(scale)
    copies = rng.integers(0, len(few), 90)
    matrix, query = few[copies], rng.standard_normal(width, np.float32)
    numbers = ranked(matrix, query, 40, backend)
    scores = exact(matrix, query)
    tolerance = width * 2.0**-52 * longest(matrix) * float(np.linalg.norm(query))
    expected = sorted(scores, reverse=True)[:40]
    assert all(abs(scores[number] - wanted) <= tolerance for number, wanted in zip(numbers, expected, strict=True))
    for one, next_ in pairwise(numbers):
        assert copies[one] != copies[next_] or one < next_


@pytest.mark.numeric
@BOTH
def test_rounding_in_32_bits_hides_nothing(backend: str) -> None:
    """Two thousand products that differ by less than 32 bits can tell: in these, other rows would have come first."""
    rng = np.random.default_rng(5)
    base = rng.standard_normal(256).astype(np.float32)
    matrix = np.stack([rng.permutation(base) for _ in range(2000)])
    query = np.ones(256, np.float32) + np.float32(1e-6) * rng.standard_normal(256).astype(np.float32)
    scores = exact(matrix, query)
    expected = sorted(range(2000), key=lambda number: (-scores[number], number))[:10]
    rough = np.argsort(-(matrix @ query), kind="stable")[:10].tolist()
    assert ranked(matrix, query, 10, backend) == expected
    assert rough != expected, "the case must be one in which 32 bits are not enough"


@BOTH
def test_a_corpus_of_one_text_is_ranked_by_number(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_NUMBERS", 700)
    assert ranked(np.full((5000, 7), 0.1), [0.3] * 7, 5, backend) == [0, 1, 2, 3, 4]


def test_the_longest_row() -> None:
    assert longest(np.float32([[1, 0], [3, 4], [0, 0]])) == 5.0
    assert math.isnan(longest(np.float32([[1, 0], [np.nan, 4]])))
    assert math.isnan(longest(np.float32([[np.inf, 0], [1, 4]])))
