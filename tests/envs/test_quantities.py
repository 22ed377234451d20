"""Numbers with what stands behind them: units, money, nouns, and the same in mathematics."""

import re
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.rewards import check
from arpo_envs.rewards.mathematics.measured import measured_pair, same_unit
from arpo_envs.rewards.mathematics.nouns import without_nouns
from arpo_envs.rewards.quantities import parse_quantity
from arpo_envs.rewards.units import CURRENCY_CODES, MOST_WORDS, leading_unit, parse_unit
from arpo_envs.tasks import Task

APPLES = "Tom has 12 apples and gives 7 away. How many apples are left?"


def judged(answer: str, expected: str, question: str = "?", **meta: object) -> bool:
    return check(Task("t", question, (expected,), {"answer_type": "number", **meta}), answer).success


# --- units ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("km", "m", 1000),
        ("mile", "ft", 5280),
        ("acre", "square feet", 43560),
        ("kWh", "J", 3_600_000),
        ("eV", "J", Fraction("1.602176634e-19")),
        ("km/h", "m/s", Fraction(5, 18)),
        ("MiB", "bytes", 2**20),
        ("%", "ppm", 10**4),
        ("euros", "€", 1),
        ("light years", "m", 9_460_730_472_580_800),
    ],
)
def test_factors_are_exact(one, other, ratio):
    left, right = parse_unit(one), parse_unit(other)
    assert left is not None
    assert right is not None
    assert left.dimensions == right.dimensions
    assert left.factor / right.factor == ratio


NO_UNITS = """
    eggs dozen half percentile no as at am are has exam mass kilos camp rare pi c x e k M b d u
    alpha sigma zeta gamma lambda hbar gravity count quarter fifth thou mil dB octave statvolt
    ² ^2 ! %% °° / // km/ per square $$ m^9 m^0 km^77 __import__ lambda: 5km
"""


@pytest.mark.parametrize("text", NO_UNITS.split())
def test_what_pint_would_take_for_a_unit_and_is_none(text):
    assert parse_unit(text) is None


@pytest.mark.parametrize("text", ["m dollars", "K dollars", "kg €", "is wrong", "a day", "an hour", "of km", "km 5", "", " "])
def test_words_that_are_no_unit_together(text):
    assert parse_unit(text) is None


def test_every_currency_is_one_of_its_own():
    units = {parse_unit(code) for code in CURRENCY_CODES}
    assert len(units) == len(CURRENCY_CODES)
    assert None not in units
    assert parse_unit("₿") != parse_unit("₺") is not None


def test_long_texts_are_not_looked_at():
    assert parse_unit("m " * (MOST_WORDS + 1)) is None
    assert leading_unit("km " * 500)[0] is None
    assert parse_unit("kilo" * 400) is None


@given(st.text("kmsgh/^²{}()-+*·°%$€ 0123456789aeper\\", max_size=30), st.fractions(min_value=0, max_value=10**6))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_a_unit_or_earns_a_reward_by_a_power(text, value):
    unit, _ = leading_unit(text)
    assert unit is None or unit.factor > 0
    behind = re.sub(r"[{}\s]", "", text)  # a group changes nothing of what is in it, and an empty one is nothing
    if behind[:1] in {"²", "^", "*", "-", "+", "("} or (text.lstrip()[:1] == "{" and behind[:1].isdigit()):
        quantity = parse_quantity(f"{value.numerator}{text}")
        is_itself = value.numerator == 10 and behind[:1] in {"^", "*"}  # 10^1
        assert quantity is None or quantity.value != value.numerator or quantity.unit is not None or is_itself


def test_groups_close_after_they_open():
    assert [parse_quantity(text) for text in ("5}{", "5}{ km", "}5{", "5{}}{", "5{", "5}")] == [None] * 6
    assert {parse_quantity(text).value for text in ("5{}", "5{} km", "5{km}", r"5\text{ km}")} == {5}


def test_pint_is_imported_when_a_unit_is_met_and_not_before():
    code = (
        "import sys; from arpo_envs.rewards import check; from arpo_envs.tasks import Task\n"
        "task = Task('t', '?', ('5',), {'answer_type': 'number'})\n"
        "assert check(task, '5').success and 'pint' not in sys.modules\n"
        "assert check(task, '5 km').success and 'pint' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what a task names -----------------------------------------------------------------------------------------------


def test_what_stands_behind_a_unit_is_named_too():
    assert judged("5 feet tall", "5", "How tall is he?")
    assert not judged("5 feet tall", "5", APPLES)
    assert judged("$5 per box", "5", "What does a box cost?")
    assert not judged("5 percent of it", "5", APPLES)
    assert judged("5", "5 years old")


def test_a_task_may_name_the_unit_of_its_answers():
    assert judged("5000 mm", "5", unit="m")
    assert not judged("5 mm", "5", unit="m")
    assert judged("5", "5", unit="m")
    assert judged("5 marbles", "5", APPLES, unit="marbles")
    assert not judged("5 cm", "5 m", unit="cm"), "its own unit comes first"
    assert judged("5", "5", unit=None), "a file may have the key and no unit"


def test_what_the_expected_answer_counts_may_be_left_out_unless_it_changes_the_number():
    assert judged("5", "5 apples")
    assert not judged("5", "5 dozen")
    assert not judged("5", "5 pi")
    assert not judged("5", "5x")


# --- in mathematics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        ("3m", "3", ("3m", "3")),
        ("3m", r"3\text{ m}", ("3", "3")),
        ("30 km/h", r"30\text{ km/h}", ("30", "30")),
        ("2x", r"2\text{ m}", ("2x", "2")),
        ("3nm", "3", ("3nm", "3")),
        (r"9.8\mathrm{m}/s^{2}", "9.8", ("9.8", "9.8")),
        ("5€", r"\$5", ("5", "5")),
    ],
)
def test_letters_beside_a_unit_are_one(one, other, texts):
    assert tuple(found.text for found in measured_pair(one, other)) == texts


def test_words_that_are_no_unit_stand_on_both_sides_or_on_none():
    assert not same_unit(*measured_pair(r"5\text{ dozen}", "5"))
    assert same_unit(*measured_pair(r"5\text{ eggs}", r"5\text{ Egg}"))
    assert same_unit(*measured_pair(r"5\text{ km}", "5"))
    assert not same_unit(*measured_pair("5€", r"\$5"))


@pytest.mark.parametrize(
    ("answer", "expected", "left"),
    [
        ("5 apples", "5", ("5", "5")),
        (r"5\text{ apples}", "5 apples", ("5", "5")),
        ("5", r"5\text{ eggs}", ("5", "5")),
        ("5 dozen", "5", ("5 dozen", "5")),
        ("5", r"5\text{ dozen}", ("5", r"5\text{ dozen}")),
        ("5 pears", "5 apples", ("5 pears", "5 apples")),
        ("5 XYZ", "5 xyz", ("5 XYZ", "5 xyz")),
        *(("2", product, ("2", product)) for product in ("2ab", "2 abc", r"2\,abc", r"2\;ab")),
        ("5 cm", "5", ("5 cm", "5")),
        (r"\frac{1}{2} apples", "0.5", (r"\frac{1}{2}", "0.5")),
    ],
)
def test_nouns_are_taken_off_both_answers_or_off_none(answer, expected, left):
    assert without_nouns(answer, expected, APPLES) == left


@pytest.mark.parametrize(
    ("answer", "right"), [("5 apples", True), ("5 pears", False), (r"5\text{ pears}", False), ("5 x", False)]
)
def test_mathematics_knows_the_question(answer, right):
    assert check(Task("t", APPLES, ("5",), {"answer_type": "math"}), answer).success is right
