"""Variants of a law take turns: each law is always tested in one of them, and in the others with what is slow."""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable

import pytest


def take_turns(items: Iterable[pytest.Item], variant: Callable[[pytest.Item], tuple[str, int] | None]) -> None:
    """Marks all but some variants of each case as slow: the first ones in a test's first case, the next in its second.

    Args:
        items: what was collected.
        variant: returns the parameter whose values are variants of the same, if a test has one, and how many are always tested.
    """
    tests: dict[str, dict[tuple[tuple[str, int], ...], list[pytest.Item]]] = defaultdict(lambda: defaultdict(list))
    always: dict[str, int] = {}
    for item in items:
        found = variant(item)
        if found is not None:
            parameter, count = found
            others = ((name, id(value)) for name, value in item.callspec.params.items() if name != parameter)
            test = item.nodeid.partition("[")[0]
            always[test] = count
            tests[test][tuple(sorted(others))].append(item)
    for test, cases in tests.items():
        for number, variants in enumerate(cases.values(), zlib.crc32(test.encode())):
            apart = max(1, round(len(variants) / always[test]))
            for place, item in enumerate(variants):
                if place % apart != number % apart:
                    item.add_marker(pytest.mark.slow)


def marked(item: pytest.Item) -> tuple[str, int] | None:
    """Returns the parameter that `pytest.mark.turns` names, and how many of its values are always tested."""
    mark = item.get_closest_marker("turns")
    return (mark.args[0], mark.kwargs.get("always", 1)) if mark is not None else None
