"""Which variants of a law `make test` tests, which the slow tests, and which the thorough ones."""

import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from pages import ROOT
from turns import in_turn, marked, take_turns


class Item:
    """A test as pytest collects it, for one value of each parameter."""

    def __init__(self, mark: pytest.MarkDecorator, **parameters: Any) -> None:
        self.nodeid = f"test_it[{parameters}]"
        self.callspec = SimpleNamespace(params=parameters)
        self.mark = mark.mark
        self.tier = "always"

    def get_closest_marker(self, name: str) -> pytest.Mark:
        return self.mark

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        assert self.tier == "always", "a test has one tier"
        self.tier = mark.name


def tiers(mark: pytest.MarkDecorator, variants: int = 12, cases: int = 12, turn: int = 0) -> dict[str, list[Item]]:
    """Returns the variants of each case, with their tiers."""
    items: list[Any] = [Item(mark, variant=number, case=case) for case in "abcdefghijkl"[:cases] for number in range(variants)]
    take_turns(items, marked, turn)
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.callspec.params["case"], []).append(item)
    return found


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (pytest.mark.turns("variant"), {"always": 1, "slow": 11}),
        (pytest.mark.turns("variant", always=4), {"always": 4, "slow": 8}),
        (pytest.mark.turns("variant", often=2), {"always": 1, "slow": 2, "thorough": 9}),
        (pytest.mark.turns("variant", always=6, often=0), {"always": 6, "thorough": 6}),
        (pytest.mark.turns("variant", always=12), {"always": 12}),
    ],
)
def test_each_case_has_variants_of_every_tier(mark: pytest.MarkDecorator, expected: dict[str, int]) -> None:
    for items in tiers(mark).values():
        counts = Counter(item.tier for item in items)
        assert counts.keys() == expected.keys()
        assert all(abs(counts[tier] - count) <= 1 for tier, count in expected.items()), counts


def test_in_time_every_variant_of_every_case_is_tested_though_never_all() -> None:
    """Those that are always tested stay, or a test would vanish while a fault that it found is mended."""
    always, slow = Counter[str](), Counter[str]()
    mark = pytest.mark.turns("variant", often=4)
    for turn in range(3):
        items = [item for items in tiers(mark, turn=turn).values() for item in items]
        always.update(item.nodeid for item in items if item.tier == "always")
        slow.update(item.nodeid for item in items if item.tier == "slow")
    assert set(always.values()) == {3}
    assert set(slow.values()) == {1}
    assert len(always) + len(slow) == 12 * 12


@pytest.mark.parametrize("turn", ["7", "8"])
def test_a_turn_is_told_and_can_be_repeated(turn: str) -> None:
    env = os.environ | {"ARPO_TESTS_TURN": turn}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-n", "0", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert f"ARPO_TESTS_TURN={turn}\n" in done.stdout
    assert done.returncode == 0, done.stdout


def test_every_variant_has_its_turn_in_some_case() -> None:
    found = [item for items in tiers(pytest.mark.turns("variant", often=2)).values() for item in items]
    for tier in ("always", "slow"):
        assert {item.callspec.params["variant"] for item in found if item.tier == tier} == {*range(12)}


def test_one_file_in_so_many_has_its_turn_and_in_time_each() -> None:
    items: list[Any] = [Item(pytest.mark.slow) for _ in range(21)]
    for number, item in enumerate(items):
        item.nodeid = f"tests/test_{'abcdefg'[number // 3]}.py::test_{number % 3}"
    tested = Counter[str]()
    for turn in range(3):
        chosen = in_turn(items, 3, turn)
        files = {item.nodeid.partition("::")[0] for item in chosen}
        assert len(chosen) == 3 * len(files), "whole files"
        assert len(files) in (2, 3)
        tested.update(files)
    assert set(tested.values()) == {1}
    assert len(tested) == 7
    assert in_turn(items, 1, 5) == items, "all, as they were"
    assert len(in_turn(items, 99, 5)) == 3, "one file at least"
    assert in_turn([], 3, 5) == []
