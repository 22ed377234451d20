"""Pairs of answers judged by hand, the reference implementation's failures among them."""

from collections import Counter
from pathlib import Path

import pytest

from arpo_envs.core import Outcome
from arpo_envs.rewards import HierarchicalReward, check
from arpo_envs.tasks import Task

Pair = tuple[str, str, str, bool, str]


def table() -> list[Pair]:
    lines = Path(__file__).with_name("checker_table.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:] if "\t" in line]
    return [(given, expected, kind, equal == "yes", "".join(note)) for given, expected, kind, equal, *note in rows]


PAIRS = table()


def name(pair: Pair) -> str:
    given, expected, kind, equal, note = pair
    return f"{kind}: {given} {'=' if equal else '!='} {expected}" + (f" ({note})" if note else "")


def test_the_table_is_large_and_means_what_it_says():
    assert len(PAIRS) >= 420
    assert len({pair[:3] for pair in PAIRS}) == len(PAIRS)
    kinds = Counter((kind, equal) for _, _, kind, equal, _ in PAIRS)
    assert all(kinds[kind, equal] >= 4 for kind in ("math", "number", "choice", "text") for equal in (True, False))
    lines = Path(__file__).with_name("checker_table.tsv").read_text(encoding="utf-8").splitlines()
    assert all(line.split("\t")[3] in {"yes", "no"} for line in lines[1:] if "\t" in line)


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_pair(pair: Pair):
    given, expected, kind, equal, _ = pair
    task = Task("t", "?", (expected,), {"answer_type": kind})
    verdict = check(task, given)
    assert verdict.success is equal, verdict
    if kind != "text":
        assert verdict.accuracy == float(equal)
    score = HierarchicalReward(bonus_tools=frozenset())(task, Outcome(given, True, frozenset()))
    assert (score.success, score.value) == (float(equal), verdict.accuracy)


@pytest.mark.parametrize("kind", ["math", "number"])
@pytest.mark.parametrize(("given", "expected"), [("-3", "3"), ("1.5", "15"), ("1/2", "12"), ("(1,2)", "12")])
def test_the_reference_gave_full_marks(kind, given, expected):
    assert not check(Task("t", "?", (expected,), {"answer_type": kind}), given).success


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [("math", r"\frac{1}{2}", "1/2"), ("number", r"\frac{1}{2}", "1/2"), ("text", "A", "A"), ("choice", "A", "A")],
)
def test_the_reference_gave_nothing(kind, given, expected):
    assert check(Task("t", "?", (expected,), {"answer_type": kind}), given).success


SYMMETRIC = [pair for pair in PAIRS if pair[0] and pair[2] == "math"]


@pytest.mark.parametrize("pair", SYMMETRIC, ids=name)
def test_mathematical_equality_is_symmetric(pair: Pair):
    given, expected, kind, equal, _ = pair
    assert check(Task("t", "?", (given,), {"answer_type": kind}), expected).success is equal
