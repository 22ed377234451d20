"""Verdicts on answers to MATH-500 beside those of MATH's own script, `is_equiv`, for every question and many ways to write one.

The script rewrites both answers as text and compares characters. Ours compares what they mean.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from test_published_scores import right

PATH = Path(__file__).parents[3] / "shared" / "benchmarks" / "math500.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
Way = Callable[[str], str]


# --- the script, step by step: modeling/math_equivalence.py of hendrycks/math (940d1bf) ----------------------------------


def normal(text: str) -> str:
    for gone in ("\n", r"\!"):
        text = text.replace(gone, "")
    text = text.replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac")
    for gone in (r"\left", r"\right", r"^{\circ}", r"^\circ", r"\$"):
        text = text.replace(gone, "")
    unit = text.split(r"\text{ ")
    if len(unit) > 2:
        raise ValueError("two units")
    text = unit[0].replace(r"\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if text == "":
        return text
    text = f"0{text}" if text[0] == "." else text
    sides = text.split("=")
    text = sides[1] if len(sides) == 2 and len(sides[0]) <= 2 else text
    text = fractions(roots(text).replace(" ", ""))
    text = r"\frac{1}{2}" if text == "0.5" else text
    slashed = re.fullmatch(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)", text)
    return rf"\frac{{{slashed[1]}}}{{{slashed[2]}}}" if slashed else text


def roots(text: str) -> str:
    first, *others = text.split(r"\sqrt")
    return first + "".join(r"\sqrt" + (one if one[0] == "{" else f"{{{one[0]}}}{one[1:]}") for one in others)


def fractions(text: str) -> str:
    first, *others = text.split(r"\frac")
    found = first
    for one in others:
        if one[0] != "{" and len(one) < 2:
            return text
        if one[0] != "{":
            one = f"{{{one[0]}}}{one[1:] if one[1] == '{' else f'{{{one[1]}}}{one[2:]}'}"
        found += r"\frac" + one
    return found


def is_equiv(one: str, other: str) -> bool:
    try:
        return normal(one) == normal(other)
    except (IndexError, ValueError):  # where the script gives up
        return one == other


# --- ways to write an answer, given the right one, and on how many of the 500 both, only ours and only the script's are right


def without_text(answer: str) -> str:
    return re.sub(r"\\text\{([^}]*)\}", r"\1", answer)


def with_point(answer: str) -> str:
    return f"{answer}.0" if answer.lstrip("-").isdigit() else answer


ALIKE: dict[str, tuple[Way, tuple[int, int, int]]] = {
    "as it is": (str, (500, 0, 0)),
    "dfrac": (lambda answer: answer.replace(r"\frac", r"\dfrac"), (500, 0, 0)),
    "a line break": (lambda answer: f"{answer}\n", (500, 0, 0)),
    "no answer": (lambda answer: "", (0, 0, 0)),
}
LENIENT: dict[str, tuple[Way, tuple[int, int, int]]] = {
    "`\\boxed{42}`": (lambda answer: rf"\boxed{{{answer}}}", (0, 500, 0)),
    "`$42$`": (lambda answer: f"${answer}$", (0, 500, 0)),
    "`The answer is 42`": (lambda answer: f"The answer is {answer}", (0, 500, 0)),
    "`42.`": (lambda answer: f"{answer}.", (2, 498, 0)),
    "`1 \\cdot 42`": (lambda answer: rf"1 \cdot {answer}", (0, 465, 0)),
    "`42 + 0`": (lambda answer: f"{answer} + 0", (0, 457, 2)),
    "`42 cm`": (lambda answer: f"{answer} cm", (0, 431, 2)),
    "`42.0`, for whole numbers": (with_point, (189, 311, 0)),
    "`even` for `\\text{even}`": (without_text, (490, 10, 0)),
}
"""Mostly right by ours only, which compare what is meant."""
STRICTER: dict[str, tuple[Way, tuple[int, int, int]]] = {
    "`42\\text{ is wrong}`": (lambda answer: rf"{answer}\text{{ is wrong}}", (0, 0, 498)),
    "`42\\text{ or } 7`": (lambda answer: rf"{answer}\text{{ or }} 7", (1, 0, 497)),
    "`7=42`": (lambda answer: f"7={answer}", (5, 0, 489)),
    "`42\\%`": (lambda answer: rf"{answer}\%", (442, 0, 58)),
    "`42\\text{ cm}`": (lambda answer: rf"{answer}\text{{ cm}}", (440, 0, 58)),
    "`\\$42`": (lambda answer: rf"\${answer}", (462, 0, 38)),
    "`42^\\circ`": (lambda answer: rf"{answer}^\circ", (467, 0, 33)),
    "`x = 42`": (lambda answer: f"x = {answer}", (489, 1, 7)),
    "`42+1`": (lambda answer: f"{answer}+1", (0, 0, 2)),
    "`427`": (lambda answer: f"{answer}7", (0, 0, 2)),
    "`-42`": (lambda answer: f"-{answer}", (0, 7, 1)),
}
"""What differs is mostly right by the script only, which takes away units, signs and names whatever they belong to."""


# --- tests -----------------------------------------------------------------------------------------------------------


def rows() -> list[str]:
    """Returns the right answers."""
    if not PATH.exists():
        pytest.skip(f"no {PATH.name} beside the checkout")
    return [json.loads(line)["answer"] for line in PATH.read_text(encoding="utf-8").splitlines()]


def counts(write: Way) -> tuple[int, int, int]:
    found = Counter((is_equiv(write(one), one), right(write(one), one, "math")) for one in rows())
    return found[True, True], found[False, True], found[True, False]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("10,\\!000", "10,000", True),
        (r"\frac12", r"\dfrac{1}{2}", True),
        (r"\frac1{72}", r"\frac{1}{72}", True),
        ("1/2", "0.5", True),
        ("-2/3", r"-\frac{2}{3}", False),
        (r"\sqrt3", r"\sqrt{3}", True),
        ("k=0.5", r"\tfrac12", True),
        ("k=.5", r"\tfrac12", False),
        ("xyz=5", "5", False),
        (r"5\text{ cm}", "5", True),
        (r"5\text{ cm}\text{ or so}", "5", False),
        (r"30^\circ", "30", True),
        (r"\frac", r"\frac", True),
        (r"\frac", "", False),
    ],
)
def test_it_says_what_its_code_says(one: str, other: str, alike: bool) -> None:
    """Verdicts that were worked out by hand, one for each of its steps."""
    assert is_equiv(one, other) is alike


@pytest.mark.slow
@pytest.mark.parametrize("way", ALIKE | LENIENT | STRICTER)
def test_every_question_answered_in_every_way(way: str) -> None:
    write, expected = (ALIKE | LENIENT | STRICTER)[way]
    assert counts(write) == expected


def test_the_page_has_the_counts() -> None:
    table = [f"| {way} | {both} | {ours} | {scripts} |" for way, (_, (both, ours, scripts)) in (LENIENT | STRICTER).items()]
    assert "\n".join(table) in PAGE.read_text(encoding="utf-8")
