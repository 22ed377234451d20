"""Answers and the hierarchical reward, against values worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.core import Outcome
from arpo_envs.errors import ConfigError
from arpo_envs.rewards import HierarchicalReward, exact_match, normalise, token_f1
from arpo_envs.tasks import Task

DIFFERENT = [
    ("-3", "3"),
    ("1.5", "15"),
    ("1/2", "12"),
    ("(1,2)", "12"),
    ("1,5", "15"),
    ("10²", "102"),
    (".5", "5"),
    ("+33", "33"),
    ("5%", "5"),
    ("$5", "5"),
    ("año", "ano"),
    ("A", "the"),
    ("A", "B"),
    ("0,001", "1"),
    ("1,2345", "12345"),
    ("3-4", "34"),
    ("", ""),
    ("", "Paris"),
    ("...", "Paris"),
]
SAME = [
    ("A", "A"),
    ("the", "The"),
    ("The Netherlands", "netherlands"),
    ("paris.", "Paris"),
    ("“Paris”", "paris"),
    ("  New   York ", "new york"),
    ("66,987,244", "66987244"),
    ("1,234.5", "1234.5"),
    ("Guinea-Bissau", "Guinea Bissau"),
    ("U.S.", "US"),
    ("−3", "-3"),
    ("Saint John’s", "Saint John's"),
    ("Paris (France)", "Paris, France"),
    ("Me\u0301rignac", "M\u00e9rignac"),
    (".fr", ".FR"),
    ("America/New_York", "america/new_york"),
    ("(1,2)", "(1,2)"),
    ("1/2", "1/2"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_answers_do_not_match(one: str, other: str) -> None:
    assert not exact_match(one, other)
    assert not exact_match(other, one)
    assert token_f1(one, other) == token_f1(other, one) == 0.0


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same_answers_match(one: str, other: str) -> None:
    assert exact_match(one, other)
    assert exact_match(other, one)
    assert token_f1(one, other) == 1.0


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("Paris, France", "Paris", 2 / 3),
        ("New York", "New York City", 0.8),
        ("the city of Paris", "Paris", 0.5),
        ("a cat dog", "a dog dog", 0.5),  # one leading article goes: {cat, dog} against {dog, dog}
        ("a a b", "a b b", 2 / 3),  # an "a" before a lone letter is no article: {a, a, b} against {a, b, b}
    ],
)
def test_token_f1_by_hand(answer: str, accepted: str, expected: float) -> None:
    assert token_f1(answer, accepted) == pytest.approx(expected)


@given(st.text(max_size=60))
def test_normalise_is_idempotent_enough_to_match_itself(text: str) -> None:
    assert exact_match(text, text) is bool(normalise(text))
    assert 0.0 <= token_f1(text, "Paris 1.5") <= 1.0


@given(*[st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd", "Zs"], include_characters="-.,()%"), max_size=40)] * 2)
def test_comparisons_are_symmetric(one: str, other: str) -> None:
    assert exact_match(one, other) == exact_match(other, one)
    assert token_f1(one, other) == pytest.approx(token_f1(other, one))


TASK = Task("t", "?", ("New York City", "NYC"))
BOTH_TOOLS = frozenset({"search", "python"})


@pytest.mark.parametrize(
    ("answer", "well_formed", "tools", "reward", "success"),
    [
        ("new york city", True, BOTH_TOOLS, 1.1, 1.0),
        ("NYC", True, frozenset({"search"}), 1.0, 1.0),
        ("NYC", True, frozenset(), 1.0, 1.0),
        ("New York", True, frozenset(), 0.8, 0.0),
        ("New York", True, BOTH_TOOLS, 0.9, 0.0),
        ("Boston", True, BOTH_TOOLS, 0.0, 0.0),  # the bonus needs Acc > 0
        ("NYC", False, BOTH_TOOLS, -1.0, 1.0),
        ("Boston", False, frozenset(), -1.0, 0.0),
        (None, True, BOTH_TOOLS, -1.0, 0.0),
        (None, False, frozenset(), -1.0, 0.0),
    ],
)
def test_hierarchical_reward(
    answer: str | None, well_formed: bool, tools: frozenset[str], reward: float, success: float
) -> None:
    score = HierarchicalReward()(TASK, Outcome(answer, well_formed, tools))
    assert score.value == pytest.approx(reward)
    assert score.success == success


def test_the_bonus_and_its_tools_are_arguments() -> None:
    outcome = Outcome("NYC", True, frozenset({"search"}))
    assert HierarchicalReward(bonus=0.5, bonus_tools=frozenset({"search"}))(TASK, outcome).value == 1.5
    assert HierarchicalReward(bonus_tools=frozenset())(TASK, outcome).value == 1.0
    with pytest.raises(ConfigError, match="negative"):
        HierarchicalReward(bonus=-0.1)
