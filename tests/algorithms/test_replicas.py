"""Where requests go, and what the top log-probabilities say about the entropy: pure functions, without a server."""

import asyncio
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.policies.entropies import entropy_bounds
from algorithms.policies.replicas import Prompts, Replicas, choose
from algorithms.policies.served import ask_servers, split_urls
from arpo_envs.errors import ConfigError

pytestmark = pytest.mark.numeric

URLS = ["http://one", "http://two", "http://three"]
INSTRUCTIONS = list(range(200))
TOKENS = st.lists(st.integers(0, 3), max_size=12)


@given(prompt=TOKENS, ends=st.lists(TOKENS, max_size=4))
def test_whatever_a_prompt_grows_into_belongs_to_it(prompt: list[int], ends: list[list[int]]) -> None:
    prompts = Prompts()
    home = prompts.prompt_of([7, *prompt])
    assert all(prompts.prompt_of([7, *prompt, *end]) == home for end in ends)


def test_prompts_that_begin_alike_are_told_apart_and_spread() -> None:
    replicas = Replicas(URLS, 4)
    homes = Counter(replicas.order([*INSTRUCTIONS, question])[0].url for question in range(300))
    assert set(homes) == set(URLS)
    assert min(homes.values()) > 60


def test_old_prompts_are_forgotten() -> None:
    prompts = Prompts(limit=2)
    first = prompts.prompt_of([1])
    assert prompts.prompt_of([1, 5]) == first
    prompts.prompt_of([2])
    prompts.prompt_of([3])
    assert prompts.prompt_of([1, 5]) != first


def test_only_the_prompts_of_a_replica_that_goes_move() -> None:
    before, after = Replicas(URLS, 4), Replicas(URLS[:2], 4)
    for question in range(100):
        context = [*INSTRUCTIONS, question]
        home = before.order(context)[0].url
        assert home == URLS[2] or after.order(context)[0].url == home


def test_the_home_is_left_when_it_is_full_down_or_resting_and_taken_again_afterwards() -> None:
    async def check() -> None:
        order = Replicas(URLS, 1).order([1, 2, 3])
        home, second, third = order
        assert choose(order, 0.0) is home
        async with home.slots:
            assert choose(order, 0.0) is second
            async with second.slots, third.slots:
                assert choose(order, 0.0) is home, "all are full: wait at home"
        second.rest(5.0)
        home.fail(0.0)
        assert choose(order, 1.0) is third
        third.fail(1.0)
        assert choose(order, 1.0) is None
        assert choose(order, 6.0) is second
        home.recover()
        assert choose(order, 6.0) is home

    asyncio.run(check())


def test_a_replica_rests_longer_each_time_it_fails_and_once_for_what_fails_together() -> None:
    async def check() -> None:
        replica = Replicas(URLS, 1).all[0]
        rests, now = [], 0.0
        for _ in range(8):
            for late in (0.0, 0.01, 0.02):
                replica.fail(now + late)
            rests.append(replica.resting_until - now)
            now = replica.resting_until
        assert rests == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
        for _ in range(6000):  # a day
            now = replica.resting_until
            replica.fail(now)
        assert replica.resting_until - now == 15.0

    asyncio.run(check())


@pytest.mark.parametrize("names", ["host:8000", "http://one,two", "http://one,http://one/v1"])
def test_strange_urls_are_explained(names: str) -> None:
    with pytest.raises(ConfigError, match=r"not a URL|given twice"):
        split_urls(names)


@pytest.mark.parametrize("url", ["http://localhost:800O", "http://[::1"])
def test_a_mistyped_url_is_explained(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a URL: .* Give http://HOST:PORT"):
        ask_servers(split_urls(url))


@given(
    st.lists(st.floats(-12.0, 12.0), min_size=2, max_size=60),
    st.integers(1, 20),
    st.integers(0, 59),
)
def test_the_entropy_lies_between_its_bounds(logits: list[float], k: int, drawn: int) -> None:
    logp_V = np.asarray(logits) - np.logaddexp.reduce(logits)
    entropy = -float((np.exp(logp_V) * logp_V).sum())
    order = np.argsort(-logp_V, kind="stable")
    known = {*order[:k].tolist(), drawn % len(logits)}  # the drawn token is known, too, likely or not
    bounds = entropy_bounds([float(logp_V[i]) for i in known], k, len(logits))
    assert bounds.least - 1e-6 <= entropy <= bounds.most + 1e-6
    if k >= len(logits):
        assert bounds.middle == pytest.approx(entropy, abs=1e-6)
    rest = 1.0 - math.fsum(math.exp(logp_V[i]) for i in known)
    likeliest = float(np.exp(logp_V[order[min(k, len(logits)) - 1]]))
    if rest > likeliest:
        width = rest * math.log(likeliest * (len(logits) - len(known)) / rest)
        assert bounds.most - bounds.least == pytest.approx(max(0.0, width), abs=1e-6)
