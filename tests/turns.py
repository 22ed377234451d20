"""Variants of a law take turns: each law is always tested in one of them, and in the others with what is slow."""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable

import pytest


def take_turns(items: Iterable[pytest.Item], variant: Callable[[pytest.Item], str | None]) -> None:
    """Marks all but one variant of each case as slow: the first variant in a test's first case, the second in its second.

    Args:
        items: what was collected.
        variant: returns the parameter whose values are variants of the same, if a test has one.
    """
    tests: dict[str, dict[tuple[tuple[str, int], ...], list[pytest.Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        parameter = variant(item)
        if parameter is not None:
            others = ((name, id(value)) for name, value in item.callspec.params.items() if name != parameter)
            tests[item.nodeid.partition("[")[0]][tuple(sorted(others))].append(item)
    for name, cases in tests.items():
        for number, variants in enumerate(cases.values(), zlib.crc32(name.encode())):
            always = variants[number % len(variants)]
            for other in variants:
                if other is not always:
                    other.add_marker(pytest.mark.slow)


def marked(item: pytest.Item) -> str | None:
    """Returns the parameter that `pytest.mark.turns` names."""
    mark = item.get_closest_marker("turns")
    return mark.args[0] if mark is not None else None
