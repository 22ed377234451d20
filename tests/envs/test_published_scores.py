"""Exact match and F1 of the published scripts: values worked by hand, and the definitions written out a second time."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.rewards import published_scores
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


@pytest.mark.parametrize(
    ("name", "rule"), [("hotpotqa", "hotpotqa"), ("2wiki", "hotpotqa"), ("musique", "musique"), ("bamboogle", "squad")]
)
def test_whole_files_under_perturbed_predictions(name: str, rule: Rule) -> None:
    path = REAL / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the checkout")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    accepted = [row.get("golden_answers") or row.get("answers") or row["answer"] for row in rows]
    golds = [[one] if isinstance(one, str) else [str(text) for text in one] for one in accepted]
    rng, others = random.Random(7), [gold[0] for gold in golds]
    found = []
    for gold in golds:
        answer = perturbed(rng.choice(gold), rng, others)
        scores = published_scores(answer, gold, rule)
        assert (scores.exact, scores.f1) == expected_scores(answer, gold, rule), (answer, gold)
        found.append(scores.f1)
    assert 0.2 < sum(found) / len(found) < 0.9, "right, wrong and half right answers all occur"
