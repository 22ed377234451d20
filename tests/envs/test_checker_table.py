"""Pairs of answers judged by hand, the reference implementation's failures among them."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from arpo_envs.core import Outcome
from arpo_envs.rewards import HierarchicalReward, check
from arpo_envs.tasks import Task

Pair = tuple[str, str, str, bool, str, str]


def table() -> list[Pair]:
    lines = Path(__file__).with_name("checker_table.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:] if "\t" in line]
    padded = ([*row, "", ""][:6] for row in rows)  # the note and the question may be left out
    return [(given, expected, kind, equal == "yes", note, asked or "?") for given, expected, kind, equal, note, asked in padded]


PAIRS = table()
KINDS = ("math", "number", "choice", "text")


def of_kind(kind: str) -> list[Pair]:
    return [pair for pair in PAIRS if pair[2] == kind]


def name(pair: Pair) -> str:
    given, expected, kind, equal, note, _ = pair
    return f"{kind}: {given} {'=' if equal else '!='} {expected}" + (f" ({note})" if note else "")


def test_the_table_is_large_and_means_what_it_says():
    assert len(PAIRS) >= 420
    assert len({(*pair[:3], pair[5]) for pair in PAIRS}) == len(PAIRS)
    assert {pair[2] for pair in PAIRS} == set(KINDS)
    kinds = Counter((kind, equal) for _, _, kind, equal, _, _ in PAIRS)
    assert all(kinds[kind, equal] >= 4 for kind in KINDS for equal in (True, False))
    lines = Path(__file__).with_name("checker_table.tsv").read_text(encoding="utf-8").splitlines()
    assert all(line.split("\t")[3] in {"yes", "no"} for line in lines[1:] if "\t" in line)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_is_judged_as_the_table_says(kind: str):
    wrong = []
    for pair in of_kind(kind):
        given, expected, _, equal, _, question = pair
        verdict = check(Task("t", question, (expected,), {"answer_type": kind}), given)
        accuracy = verdict.accuracy if kind == "text" else float(equal)  # a text that is not equal may have words in common
        if (verdict.success, verdict.accuracy) != (equal, accuracy):
            wrong.append((name(pair), verdict))
    assert not wrong


@pytest.mark.turns("part")
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_the_reward_pays_every_pair_as_it_is_judged(kind: str, part: int):
    reward = HierarchicalReward(bonus_tools=frozenset())
    for given, expected, _, _, _, question in of_kind(kind)[part::8]:
        task = Task("t", question, (expected,), {"answer_type": kind})
        verdict = check(task, given)
        score = reward(task, Outcome(given, True, frozenset()))
        assert (score.success, score.value) == (float(verdict.success), verdict.accuracy), (given, expected)


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


@pytest.mark.slow
def test_mathematical_equality_is_symmetric():
    symmetric = [pair for pair in PAIRS if pair[0] and pair[2] == "math"]
    assert len(symmetric) > 200
    turned = {name(pair): check(Task("t", pair[5], (pair[0],), {"answer_type": "math"}), pair[1]).success for pair in symmetric}
    assert turned == {name(pair): pair[3] for pair in symmetric}


@pytest.mark.slow
def test_the_page_says_where_plain_math_verify_differs():
    script = Path(__file__).with_name("beside_math_verify.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=True)
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    page = (Path(__file__).parents[2] / "docs" / "answers.md").read_text(encoding="utf-8")
    counts = [found[what] for what in ("agrees", "pays a wrong answer", "refuses a right one")]
    said = f"Of {sum(counts)} rows it agrees on {counts[0]}, pays {counts[1]} wrong answers and refuses {counts[2]} right ones"
    assert said in " ".join(page.split())
