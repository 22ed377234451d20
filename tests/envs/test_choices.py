"""Which option an answer names: its letter, its text or both, and never two of them."""

import pytest

from arpo_envs.errors import ConfigError
from arpo_envs.rewards import check
from arpo_envs.rewards.choices import letter_of
from arpo_envs.tasks import Task

CITIES = {"A": "Rome", "B": "Paris", "C": "New York", "D": "a village"}
NUCLEOTIDES = {"A": "C", "B": "A", "C": "G", "D": "T"}
PREFIXES = {"A": "New", "B": "New York"}
JOINED = {"A": "Rome", "B": "Rome and Paris"}
BOTH = {"A": "x", "B": "y", "C": "Both A and B", "D": "None of the above"}
VITAMINS = {"A": "Vitamin C", "B": "Vitamin A"}
UNITS = {"A": "5 N", "B": "5 C", "C": "3 A"}
FORMULAS = {"A": r"$\frac12$", "B": r"$\sqrt{3}$", "C": "3"}
ENERGIES = {"A": r"\Delta H", "B": r"$\Delta G$", "C": r"\(\frac{A}{B}\)"}
VERDICTS = {"A": "yes", "B": "no"}
CHINESE = {"A": "巴黎", "B": "罗马"}


def judged(answer, accepted, options):
    return check(Task("t", "?", (accepted,), {"answer_type": "choice", "options": options}), answer).success


@pytest.mark.parametrize(
    "answer", ["B", "Paris", "paris.", "B Paris", "(B) Paris", "B. It is Paris", "**B** Paris", "B\n\nParis"]
)
def test_an_option_is_named_by_its_letter_its_text_or_both(answer):
    assert judged(answer, "B", CITIES)
    assert judged(answer, "Paris", list(CITIES.values()))


@pytest.mark.parametrize(
    "answer",
    [
        *["B) Rome", "B, Rome", "B Rome", "B = Rome", "B — Rome", "B. Rome is the capital", "Rome", "E", "E, Paris", "village"],
        *["Paris or Rome", "Paris, Rome", "B, Rome, Paris", "B Paris, A Rome", "Paris (A)", "B (A)", "B\nA", "B? No, A"],
        *["Not B", "B is wrong", "B: incorrect", "B, although I think it is A", "A village", "a good question about Paris"],
    ],
)
def test_another_option_or_two_earn_nothing(answer):
    assert not judged(answer, "B", CITIES)


@pytest.mark.parametrize(
    ("options", "answer", "letter"),
    [
        *[(PREFIXES, "B) New York is it", "B"), (PREFIXES, "A) New York", None), (PREFIXES, "A New", "A")],
        *[
            (JOINED, "B) Rome and Paris. Both are capitals.", "B"),
            (JOINED, "Rome and Paris", "B"),
            (JOINED, "A) Rome and Paris", None),
        ],
        *[(NUCLEOTIDES, "A", "A"), (NUCLEOTIDES, "B: A", "B"), (NUCLEOTIDES, "(B) A", "B"), (NUCLEOTIDES, "T", "D")],
        *[
            (BOTH, "C) Both A and B", "C"),
            (BOTH, "Both A and B.", "C"),
            (BOTH, "None of the above", "D"),
            (BOTH, "A and B", None),
        ],
        *[(VITAMINS, "A) Vitamin C", "A"), (VITAMINS, "Vitamin A", "B"), (VITAMINS, "A) Vitamin A", None)],
        *[(UNITS, "C) 3.0 A", "C"), (UNITS, "A. 5 N", "A"), (UNITS, "A. 5 C", None)],
        *[(FORMULAS, r"\boxed{\textbf{(B)}\ \sqrt{3}}", "B"), (FORMULAS, r"\sqrt{3}", "B"), (FORMULAS, r"C) \sqrt{3}", None)],
        *[(VERDICTS, "no", "B"), (VERDICTS, "B. No", "B"), (VERDICTS, "A, no", None)],
        *[(CHINESE, "Ａ、巴黎", "A"), (CHINESE, "（B）罗马", "B"), (CHINESE, "答案：A", "A"), (CHINESE, "A、罗马", None)],
        *[(FORMULAS, r"\dfrac{1}{2}", "A"), (FORMULAS, r"\sqrt 3", "B"), (FORMULAS, r"A. $x = \frac{B}{C}$, so C = 1", None)],
        *[(ENERGIES, r"\Delta H", "A"), (ENERGIES, r"B. \Delta G", "B"), (ENERGIES, r"B. \Delta H", None)],
        *[(ENERGIES, r"B. $\Delta G = A + C$ is right", "B"), (ENERGIES, r"C. \frac{A}{B} as asked", "C")],
        *[({"A": "", "B": "y"}, "", None), ({"A": "", "B": "y"}, "A", "A")],
    ],
)
def test_texts_that_look_like_letters_denials_or_each_other(options, answer, letter):
    assert letter_of(answer, options) == letter


def test_options_by_letter_and_options_that_make_no_sense():
    assert judged("Rome", "c", {"(c)": "Rome", "d": "Paris"})
    assert letter_of("d", {"C": "Rome", "D": "Paris"}) == "D"
    with pytest.raises(ConfigError, match="options"):
        judged("A", "A", "AB")
    with pytest.raises(ConfigError, match="options"):
        judged("A", "A", [1, 2])
    with pytest.raises(ConfigError, match="must be a letter"):
        judged("A", "Madrid", CITIES)
