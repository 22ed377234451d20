"""Variants of a law take turns: each is always tested in some, in more with what is slow, and in all by what is thorough."""

import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
# Set for the processes that tests start, and so for those of xdist: all of them have the same turn.
TURN = int(os.environ.setdefault("ARPO_TESTS_TURN", str(zlib.crc32(_CHANGELOG.read_bytes()) % 1000)))
"""Which variants are slow and which thorough; others with each change that users notice, so that in time CI tests all."""
SHARE = int(os.environ.get("ARPO_TESTS_SHARE", "1"))
"""Where it is more than 1, one file of tests in so many has its turn: `.ci/run` has no time for more on a slow machine."""
TOLD = f"turn {TURN} of what CI tests in part; repeat it with ARPO_TESTS_TURN={TURN}" + (
    f" ARPO_TESTS_SHARE={SHARE}: one file in {SHARE} is tested, as this machine is slow" if SHARE > 1 else ""
)


class Turns(NamedTuple):
    """What `pytest.mark.turns` says: the parameter whose values are variants of the same, and how many are tested when.

    Args:
        parameter: its name.
        always: how many are tested in each case by `make test`.
        often: how many more `make test-slow` tests; the rest is left to `make test-thorough`. None for all.
    """

    parameter: str
    always: int = 1
    often: int | None = None


def take_turns(items: Iterable[pytest.Item], turns: Callable[[pytest.Item], Turns | None], turn: int = TURN) -> None:
    """Marks all but some variants of each case as slow or thorough: the first are kept in a test's first case, then the next.

    Args:
        items: what was collected.
        turns: returns which of its parameters takes turns, if one does.
        turn: moves on which variants are thorough.
    """
    tests: dict[str, dict[tuple[tuple[str, int], ...], list[pytest.Item]]] = defaultdict(lambda: defaultdict(list))
    said: dict[str, Turns] = {}
    for item in items:
        found = turns(item)
        if found is not None:
            others = ((name, id(value)) for name, value in item.callspec.params.items() if name != found.parameter)
            test = item.nodeid.partition("[")[0]
            said[test] = found
            tests[test][tuple(sorted(others))].append(item)
    for test, cases in tests.items():
        for number, variants in enumerate(cases.values(), zlib.crc32(test.encode())):
            rest = _without(variants, said[test].always, number)
            often = said[test].often
            thorough = [] if often is None else _without(rest, often, number + turn)
            for item in rest:
                item.add_marker(pytest.mark.thorough if item in thorough else pytest.mark.slow)


def _without(variants: list[pytest.Item], some: int, number: int) -> list[pytest.Item]:
    """Returns the variants whose turn it is not in the case of that number: about so many are left out, evenly."""
    if not some:
        return variants
    apart = max(1, round(len(variants) / some))
    return [item for place, item in enumerate(variants) if place % apart != number % apart]


def in_turn(items: Iterable[pytest.Item], share: int = SHARE, turn: int = TURN) -> list[pytest.Item]:
    """Returns the tests of those files whose turn it is: of one in `share` of the files that have any, and of one at least."""
    place = {item: item.nodeid.partition("::")[0] for item in items}
    files = sorted(set(place.values()))
    share = min(share, len(files))
    chosen = {*files[turn % share :: share]} if files else set()
    return [item for item in place if place[item] in chosen]


def marked(item: pytest.Item) -> Turns | None:
    """Returns what `pytest.mark.turns` says of a test."""
    mark = item.get_closest_marker("turns")
    return Turns(*mark.args, **mark.kwargs) if mark is not None else None


def some_slow(names: Iterable[str], usual: Collection[str], every: int = 1) -> list[Any]:
    """Returns parameters of which all but the usual ones are marked slow: the same law for more of a kind.

    Args:
        names: values of the parameter.
        usual: which of them `make test` tests.
        every: one in so many of the others is slow, by turns; the rest is left to `make test-thorough`.
    """
    assert set(usual) <= set(names), "each is there"
    others = [name for name in names if name not in usual]
    slow = others[TURN % every :: every]
    marks = {name: pytest.mark.slow if name in slow else pytest.mark.thorough for name in others}
    return [name if name in usual else pytest.param(name, marks=marks[name]) for name in names]
