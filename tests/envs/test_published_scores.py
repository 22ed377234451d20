"""Scores beside what published scripts gave, beside values worked by hand, and beside the definitions written a second time."""

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs import Task
from arpo_envs.rewards import check, published_scores
from arpo_envs.rewards.published import Rule, published_normal

REAL = Path(__file__).parents[3] / "shared" / "benchmarks"
RULES: tuple[Rule, ...] = ("squad", "hotpotqa", "musique")
WORDS = ("a", "The", "an", "yes", "No", "noanswer", "Paris", "paris,", "U.S.", "-3", "1.5", "é", "“x”", "theory", "!", "")

answers = st.one_of(st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join), st.text(max_size=12))


# --- the definitions, step by step ------------------------------------------------------------------------------------


def tokens(text: str) -> list[str]:
    kept = "".join(sign for sign in text.lower() if sign not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def f1(given: str, expected: str, rule: Rule) -> float:
    own, target = tokens(given), tokens(expected)
    verdicts = (["yes"], ["no"], ["noanswer"])
    if rule == "hotpotqa" and (own in verdicts or target in verdicts) and own != target:
        return 0.0
    if rule == "musique" and (own == [] or target == []):
        return 1.0 if own == target else 0.0
    left, common = list(target), 0
    for word in own:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = 1.0 * common / len(own), 1.0 * common / len(target)
    return (2 * precision * recall) / (precision + recall)


def expected_scores(answer: str, accepted: Sequence[str], rule: Rule) -> tuple[float, float]:
    exact = max(1.0 if tokens(answer) == tokens(one) else 0.0 for one in accepted)
    return exact, max(f1(answer, one, rule) for one in accepted)


# --- golden values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "squad", "hotpotqa", "musique"),
    [
        ("Paris", ["paris."], 1, 1, 1, 1),
        ("The Eiffel Tower, Paris", ["Eiffel Tower"], 0, 4 / 5, 4 / 5, 4 / 5),
        ("the theory of a game", ["game theory"], 0, 4 / 5, 4 / 5, 4 / 5),  # theory of game / game theory: 2 of 3, 2 of 2
        ("Paris Paris", ["Paris"], 0, 2 / 3, 2 / 3, 2 / 3),
        ("yes", ["yes"], 1, 1, 1, 1),
        ("yes, he did", ["yes"], 0, 1 / 2, 0, 1 / 2),
        ("no", ["no man's land"], 0, 1 / 2, 0, 1 / 2),
        ("the no", ["No."], 1, 1, 1, 1),
        ("noanswer", ["no answer"], 0, 0, 0, 0),
        ("", ["The A."], 1, 0, 0, 1),  # both are empty once normalised
        ("", ["Paris"], 0, 0, 0, 0),
        ("-1.5", ["15"], 1, 1, 1, 1),  # signs and points are deleted: as published
        ("New York City", ["NYC", "New York"], 0, 4 / 5, 4 / 5, 4 / 5),
        ("well-known", ["well known"], 0, 0, 0, 0),
    ],
)
def test_values_worked_by_hand(
    answer: str, accepted: list[str], exact: float, squad: float, hotpotqa: float, musique: float
) -> None:
    found = [published_scores(answer, accepted, rule) for rule in RULES]
    assert [one.exact for one in found] == [exact] * 3
    assert [one.f1 for one in found] == pytest.approx([squad, hotpotqa, musique], abs=1e-15)


def test_something_must_be_accepted() -> None:
    with pytest.raises(ValueError, match="at least one accepted answer"):
        published_scores("x", [])


# --- laws -------------------------------------------------------------------------------------------------------------


@given(answers, st.lists(answers, min_size=1, max_size=3), st.sampled_from(RULES))
def test_they_are_those_of_the_definitions_to_the_last_bit(answer: str, accepted: list[str], rule: Rule) -> None:
    found = published_scores(answer, accepted, rule)
    assert (found.exact, found.f1) == expected_scores(answer, accepted, rule)


@given(answers, answers, st.sampled_from(RULES))
def test_one_answer_is_compared_with_another_in_either_direction(one: str, other: str, rule: Rule) -> None:
    there, back = published_scores(one, [other], rule), published_scores(other, [one], rule)
    assert there.exact == back.exact
    assert there.f1 == pytest.approx(back.f1)
    assert 0.0 <= there.f1 <= 1.0
    if there.exact and published_normal(one):
        assert there.f1 == 1.0


@given(answers, st.lists(answers, min_size=1, max_size=3), answers, st.sampled_from(RULES))
def test_what_is_also_accepted_never_lowers_a_score(answer: str, accepted: list[str], more: str, rule: Rule) -> None:
    before, after = published_scores(answer, accepted, rule), published_scores(answer, [*accepted, more], rule)
    assert after.exact >= before.exact
    assert after.f1 >= before.f1


@given(answers)
def test_to_normalise_twice_changes_nothing_but_articles_that_the_first_time_uncovers(text: str) -> None:
    once = published_normal(text)
    assert published_normal(once) == " ".join(tokens(once))


# --- real files -------------------------------------------------------------------------------------------------------


def perturbed(answer: str, rng: random.Random, others: Sequence[str]) -> str:
    words = answer.split() or ["x"]
    match rng.randrange(7):
        case 0:
            return answer
        case 1:
            return f"The {answer.upper()}."
        case 2:
            return " ".join(words[: rng.randrange(len(words)) + 1])
        case 3:
            return f"{answer}, {rng.choice(others)}"
        case 4:
            return rng.choice(["yes", "no", "noanswer", "", "a"])
        case 5:
            return " ".join(rng.sample(words, len(words)))
        case _:
            return rng.choice(others)


def rows_of(name: str) -> list[dict[str, Any]]:
    path = REAL / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the checkout")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "rule", "exact", "f1"),
    [
        ("hotpotqa", "hotpotqa", 81.0, 124.96572871572872),
        ("2wiki", "hotpotqa", 88.0, 130.79368964368962),
        ("musique", "musique", 93.0, 126.62188644688644),
        ("bamboogle", "squad", 55.0, 77.10079365079362),
        ("SimpleQA", "squad", 243.0, 341.82887331966293),
        ("webwalker", "squad", 95.0, 132.180817351985),
    ],
)
def test_whole_files_under_perturbed_predictions(name: str, rule: Rule, exact: float, f1: float) -> None:
    """The sums are what the scripts gave for these predictions.

    They are hotpot_evaluate_v1.py of hotpotqa/hotpot (4c0fa5e), metrics/answer.py of StonyBrookNLP/musique (8b8d8ce), and
    SQuAD's evaluate-v1.1.py.
    """
    rows = rows_of(name)
    accepted = [row.get("golden_answers") or row.get("answers") or row["answer"] for row in rows]
    golds = [[one] if isinstance(one, str) else [str(text) for text in one] for one in accepted]
    rng, others = random.Random(7), [gold[0] for gold in golds]
    found = []
    for gold in golds:
        answer = perturbed(rng.choice(gold), rng, others)
        found.append(published_scores(answer, gold, rule))
        assert (found[-1].exact, found[-1].f1) == expected_scores(answer, gold, rule), (answer, gold)
    assert (sum(one.exact for one in found), sum(one.f1 for one in found)) == (exact, f1)


# --- verdicts ---------------------------------------------------------------------------------------------------------

GSM8K: dict[str, dict[str, bool]] = {
    "18": {"26": False, "224": False, "4": False, "18": True},
    "3": {"3": True, "250": False},
    "70000": {"90,000": False, "115000": False, "-129025": False, "65000": False},
    "540": {"60": False, "540": True},
    "20": {"266": False, "20": True, "43": False, "800": False},
    "64": {"77": False, "128": False, "32": False},
    "260": {"15": False, "260": True},
    "160": {"140": False, "60": False, "40": False, "160": True},
}
"""Answers of four models to the first questions, and whether they were found correct: example_model_solutions.jsonl of
openai/grade-school-math (3ab4873)."""
EQUAL_IN_MATH: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "dfrac": lambda text: text.replace(r"\frac", r"\dfrac"),
    "tfrac": lambda text: text.replace(r"\frac", r"\tfrac"),
    "left and right": lambda text: text.replace(r"\left", "").replace(r"\right", "") if r"\left" in text else _stretched(text),
    "thin space": lambda text: text.replace(",", r",\!"),
    "no zero": lambda text: text.replace("0.", "."),
}
"""Ways to write an answer in which `is_equiv` of hendrycks/math (940d1bf) found all 500 of MATH-500 equal to themselves."""


def _stretched(text: str) -> str:
    return text.replace("(", r"\left(").replace(")", r"\right)")


def right(answer: str, accepted: str, kind: str) -> bool:
    return check(Task("t", "?", (accepted,), {"answer_type": kind}), answer).success


def test_recorded_answers_to_gsm8k_are_judged_as_by_its_authors() -> None:
    found = {truth: {answer: right(answer, truth, "number") for answer in answers} for truth, answers in GSM8K.items()}
    assert found == GSM8K


@pytest.mark.parametrize("way", EQUAL_IN_MATH)
def test_what_the_script_of_math_calls_equal_is_right(way: str) -> None:
    answers = [row["answer"] for row in rows_of("math500")]
    assert [text for text in answers if not right(EQUAL_IN_MATH[way](text), text, "math")] == []


def test_what_the_script_of_math_calls_different_is_wrong() -> None:
    """Pairs of answers, and answers one too large."""
    answers, rng = [row["answer"] for row in rows_of("math500")], random.Random(3)
    pairs = [(rng.choice(answers), rng.choice(answers)) for _ in range(150)]
    pairs = [(one, other) for one, other in pairs if one != other] + [(f"{text}+1", text) for text in answers[::5]]
    assert [pair for pair in pairs if right(*pair, "math")] == []
