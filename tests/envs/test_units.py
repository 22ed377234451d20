"""Units by pint, and the words behind a number that say what a task counts."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.rewards import check
from arpo_envs.rewards.counting import FUNCTION_WORDS, NUMERALS, is_counted
from arpo_envs.rewards.units import parse_unit
from arpo_envs.rewards.wrapping import unwrapped
from arpo_envs.tasks import Task

HOW_MANY = "Ann has 12 red apples and eats 7 with her children. How many apples are left?"


def judged(answer, expected, question, kind):
    return check(Task("t", question, (expected,), {"answer_type": kind}), answer).success


@pytest.mark.parametrize("kind", ["number", "math"])
@pytest.mark.parametrize(
    ("answer", "right"),
    [
        *[("5 apples", True), ("5 apple", True), ("5 red apples", True), (r"5\text{ apples}", True), ("**5 apples**", True)],
        *[
            ("5 pears", False),
            ("5 of the apples", False),
            ("5 apples or 6", False),
            ("5 dozen apples", False),
            ("6 apples", False),
        ],
        *[("5 are left", False), ("5 many", False), ("5 how", False), ("5x apples", False), ("5 x", False)],
    ],
)
def test_words_behind_a_number_are_what_the_task_counts(kind, answer, right):
    assert judged(answer, "5", HOW_MANY, kind) is right


@pytest.mark.parametrize("word", sorted(NUMERALS | FUNCTION_WORDS))
def test_a_word_that_changes_a_number_or_names_nothing_is_never_what_is_counted(word):
    plural = f"{word}s" if word in NUMERALS and not word.endswith("s") else word
    for form in (word, plural, word.title()):
        assert not is_counted(form, f"How many {word} or {form} are there?")
        assert not judged(f"5 {form}", "5", "?", "number") or parse_unit(form) is not None


@pytest.mark.parametrize("word", ["pi", "theta", "alpha", "sin", "log", "x", "e", "sqrt", "mod", "inf"])
def test_a_name_of_mathematics_is_never_what_is_counted(word):
    for kind in ("number", "math"):
        assert not judged(f"5 {word}", "5", f"What is the angle in terms of {word}?", kind)


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        *[("km", "m", 1000), ("inch", "cm", Fraction(254, 100)), ("mile", "yards", 1760), ("kWh", "MJ", Fraction(36, 10))],
        *[("km/h", "m/s", Fraction(5, 18)), ("sq ft", "square inches", 144), ("hectare", "m^2", 10_000), ("MB", "kB", 1000)],
        *[
            ("MiB", "KiB", 1024),
            ("year", "months", 12),
            ("week", "days", 7),
            ("$", "cents", 100),
            ("€", "euros", 1),
            ("%", "percent", 1),
        ],
        *[
            ("lb", "oz", 16),
            ("gallon", "quarts", 4),
            ("atm", "Pa", 101_325),
            ("N", "kg m/s^2", 1),
            ("kΩ", "ohms", 1000),
            ("L", "dm³", 1),
        ],
    ],
)
def test_units_are_converted_exactly(one, other, ratio):
    left, right = parse_unit(one), parse_unit(other)
    assert left is not None
    assert right is not None
    assert left.dimensions == right.dimensions
    assert left.factor / right.factor == ratio


@pytest.mark.parametrize(
    ("one", "other"), [("km", "kg"), ("$", "€"), ("°", "°C"), ("m", "m^2"), ("MB", "MHz"), ("%", "$"), ("s", "m")]
)
def test_other_things_are_not_converted(one, other):
    left, right = parse_unit(one), parse_unit(other)
    assert left is not None
    assert right is not None
    assert left.dimensions != right.dimensions


@given(st.text(max_size=40) | st.text("kmgsdaeio°%$²³/^{}\\ -", max_size=20))
def test_any_text_is_a_unit_or_none(text):
    unit = parse_unit(text)
    assert unit is None or unit.factor != 0


def test_threads_read_the_same_units():
    names = ["km", "miles", "kWh", "°F", "euros", "no unit", "Gg", "mmol", "hPa", "acres"] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(parse_unit, names)) == [parse_unit(name) for name in names]


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("### Final Answer\n58", "58"),
        ("**Final Answer**\n\n58", "58"),
        ("> 58", "58"),
        ("👩‍🔬 **58** 🎉", "58"),
        ("☑️ Answer: $\\boxed{58}$.", "58"),
        ("The final answer is: __`58`__", "58"),
        ("58 ℃", "58 ℃"),
        ("145 °", "145 °"),
        ("#58", "#58"),
        ("- 58", "- 58"),
        ("*", "*"),
        ("$", "$"),
        ("", ""),
        ("a * b * c", "a * b * c"),
        ("$5 and 6\\$", "$5 and 6\\$"),
    ],
)
def test_wrapping_comes_off_and_nothing_else(text, inside):
    assert unwrapped(text) == inside


@given(st.text(st.characters(exclude_categories=["Cf", "Cs", "Mn"]), max_size=60))
def test_what_is_unwrapped_stands_in_the_text(text):
    assert unwrapped(text) in text
