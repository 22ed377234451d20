"""The books of the pool: against a plain record of what each slot holds, under a budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.policies.prefixes import Prefixes


def compute(books: Prefixes, slot: int) -> None:
    books.ready_S[slot] = books.known_S[slot]


def check(books: Prefixes) -> None:
    """No place is held that nobody names, none is free that somebody names, and equal places mean equal prefixes."""
    named: dict[int, set[tuple[int, ...]]] = {}
    for slot in range(len(books.known_S)):
        known = int(books.known_S[slot])
        assert 0 <= books.ready_S[slot] <= known
        tokens = books.tokens_ST[slot, :known].tolist()
        for at, place in enumerate(books.places_ST[slot, :known].tolist()):
            assert place > 0, "place 0 is nobody's"
            named.setdefault(place, set()).add(tuple(tokens[: at + 1]))
        assert not books.places_ST[slot, known:].any()
    assert all(len(prefixes) == 1 for prefixes in named.values()), "one place, one prefix"
    assert books.held == len(named)
    assert books.held <= books.budget


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_books_are_right_under_any_budget(data: st.DataObject) -> None:
    count, budget = data.draw(st.integers(1, 4)), data.draw(st.integers(10, 30))
    books, busy = Prefixes(count, 10, budget), set()
    for _ in range(data.draw(st.integers(1, 30))):
        move = data.draw(st.sampled_from(["place", "draw", "free", "forget"]))
        if move == "place":
            context = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=9))
            placement = books.place(context)
            if placement is None:
                assert busy, "with nobody busy there is always room"
            else:
                assert placement.slot not in busy
                assert placement.cached < len(context), "one token is always fed"
                assert books.tokens_ST[placement.slot, : len(context)].tolist() == context
                busy.add(placement.slot)
        elif move == "draw" and busy:
            for slot in sorted(busy):
                compute(books, slot)
                if books.known_S[slot] < 10 and not books.append(slot, data.draw(st.integers(0, 1))):
                    busy.discard(slot)
                    books.free(slot)
        elif move == "free" and busy:
            slot = data.draw(st.sampled_from(sorted(busy)))
            busy.discard(slot)
            books.free(slot)
        elif move == "forget" and not busy:
            books.forget()
            assert books.held == 0
        check(books)


def test_forks_share_their_places() -> None:
    books = Prefixes(4, 100, 400)
    first = books.place(list(range(90)))
    assert first is not None
    compute(books, first.slot)
    for fork in range(3):
        placement = books.place([*range(80), 1000 + fork])
        assert placement is not None
        assert placement.cached == 80
    assert books.held == 90 + 3


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    books = Prefixes(8, 10, 30)
    for start in (0, 100, 200):  # three sequences of ten fill the pool
        placement = books.place(list(range(start, start + 10)))
        assert placement is not None
        compute(books, placement.slot)
        books.free(placement.slot)
    again = books.place(list(range(10)))  # the oldest is used again
    assert again is not None
    assert again.cached == 9
    compute(books, again.slot)
    books.free(again.slot)
    new = books.place(list(range(300, 305)))
    assert new is not None
    books.free(new.slot)
    known = {int(books.tokens_ST[slot, 0]) for slot in range(8) if books.known_S[slot]}
    assert known == {0, 200}, "the one from 100 on had to go; the new one was not computed"


def test_a_request_waits_for_a_prefix_that_is_being_computed() -> None:
    books = Prefixes(4, 20, 80)
    first = books.place([*range(12), 20])
    assert first is not None
    assert books.place([*range(12), 21]) is None
    compute(books, first.slot)
    second = books.place([*range(12), 21])
    assert second is not None
    assert second.cached == 12


def test_it_does_not_wait_for_a_few_tokens() -> None:
    books = Prefixes(4, 20, 80)
    assert books.place([1, 2, 3, 4]) is not None
    assert books.place([1, 2, 3, 5]) is not None
    check(books)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 191, 192, 193, 400])
def test_common_prefixes_are_found_at_any_length(length: int) -> None:
    """Slots are compared in stretches; a difference may lie at their seams."""
    rng = np.random.default_rng(length)
    books = Prefixes(6, 500, 3000)
    context = rng.integers(0, 50, size=length + 50).tolist()
    for cut in (0, length // 2, length):
        placement = books.place([*context[:cut], 99, *rng.integers(0, 50, size=30).tolist()])
        assert placement is not None
        compute(books, placement.slot)
        books.free(placement.slot)
    found = books.place(context)
    assert found is not None
    assert found.cached == length


def test_a_pool_holds_at_least_one_sequence() -> None:
    with pytest.raises(ValueError, match="cannot hold one sequence of 10"):
        Prefixes(4, 10, 9)
