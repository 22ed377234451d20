"""Waits before retries: doubled up to a longest one, and shortened by a given generator to no less than half."""

import itertools
import math
import random
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs import wait_before_retry

SECONDS = st.floats(1e-6, 1e6)
RETRIES = st.integers(0, 5000)
SEEDS = st.integers(0, 2**63)


@given(first=SECONDS, longest=SECONDS)
def test_without_a_generator_they_double_until_the_longest(first: float, longest: float) -> None:
    waits = [wait_before_retry(retry, first=first, longest=longest) for retry in range(60)]
    assert waits[0] == min(first, longest)
    assert all(after == min(2 * before, longest) for before, after in itertools.pairwise(waits))


@given(retry=RETRIES, first=SECONDS, longest=SECONDS, seed=SEEDS)
def test_a_generator_shortens_them_to_no_less_than_half(retry: int, first: float, longest: float, seed: int) -> None:
    cap = wait_before_retry(retry, first=first, longest=longest)
    wait = wait_before_retry(retry, first=first, longest=longest, rng=np.random.default_rng(seed))
    assert cap / 2 <= wait <= cap <= longest


@given(retry=RETRIES, first=SECONDS, longest=SECONDS)
def test_the_longest_wait_never_falls_with_the_number_of_retries(retry: int, first: float, longest: float) -> None:
    caps = [wait_before_retry(number, first=first, longest=longest) for number in (retry, retry + 1)]
    assert caps[0] <= caps[1]


@given(first=SECONDS, longest=SECONDS)
def test_after_any_number_of_retries_they_are_finite(first: float, longest: float) -> None:
    assert wait_before_retry(sys.maxsize, first=first, longest=longest) == longest
    assert math.isfinite(wait_before_retry(sys.maxsize, first=0.0, longest=longest))


@given(retry=RETRIES, seed=SEEDS)
def test_they_are_a_function_of_the_generator_which_draws_one_number(retry: int, seed: int) -> None:
    one, other, draws_one = (np.random.default_rng(seed) for _ in range(3))
    waits = [wait_before_retry(retry, first=0.25, longest=8.0, rng=rng) for rng in (one, other)]
    assert waits[0] == waits[1]
    draws_one.random()
    assert one.random() == draws_one.random()


def test_no_other_generator_is_touched() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    wait_before_retry(3, first=0.25, longest=8.0)
    wait_before_retry(3, first=0.25, longest=8.0, rng=np.random.default_rng(0))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index, union-attr]  # noqa: NPY002
