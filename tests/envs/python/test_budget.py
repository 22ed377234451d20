"""What an environment counts: needed processes, spare ones, and places that are kept for those."""

import pytest

from arpo_envs.tools.python.budget import Budget

FULL = "all 2 interpreters that this environment may have at a time are in use"
GONE = (1 << 30, (1 << 30) + 1)
"""Numbers that no process has, so that they take nothing."""


@pytest.fixture
def budget():
    budget = Budget(2, 1 << 30)
    budget.enter(GONE[0])
    return budget


def test_no_more_places_are_kept_than_there_are(budget):
    assert [budget.keep_place() for _ in range(3)] == [True, False, False]
    assert budget.complaint(copying=GONE[0]) == FULL
    budget.give_place()
    budget.enter(GONE[1])
    assert not budget.keep_place()
    assert (budget.complaint(copying=GONE[0]), budget.complaint()) == (FULL, None)


def test_a_spare_is_given_up_when_the_room_is_needed_and_what_is_needed_is_not(budget):
    ended = []

    def end():
        ended.append(1)
        budget.leave(GONE[1])

    budget.enter(GONE[1])
    assert budget.room(copying=GONE[0]) == FULL
    budget.offer(GONE[1], end)
    assert (budget.room(copying=GONE[0]), ended) == (None, [1])
    assert not budget.claim(GONE[1])


def test_a_spare_that_was_claimed_is_needed(budget):
    budget.enter(GONE[1])
    budget.offer(GONE[1], budget.leave)  # would fail: it takes an argument
    assert budget.claim(GONE[1])
    assert not budget.claim(GONE[1])
    assert budget.room(copying=GONE[0]) == FULL
