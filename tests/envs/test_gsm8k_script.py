"""Verdicts on answers to GSM8K beside those of its authors' script, for every question and many ways to write an answer.

The script reads the first number after `#### ` and compares characters. Ours compares values: it knows more ways to write the
right number, and it reads on, where the script ignores what follows a number and changes it.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_published_scores import GSM8K, right

from arpo_envs.rewards import check
from arpo_envs.tasks.benchmarks import load_benchmark

PATH = Path(__file__).parents[3] / "shared" / "benchmarks" / "gsm8k.jsonl"
INVALID = "[invalid]"
Way = Callable[[str], str]


# --- the script, step by step: grade_school_math/dataset.py of openai/grade-school-math (3ab4873) ------------------------


def extracted(completion: str) -> str:
    found = re.compile(r"#### (\-?[0-9\.\,]+)").search(completion)
    return found.group(1).strip().replace(",", "") if found else INVALID


def is_correct(completion: str, solution: str) -> bool:
    truth = extracted(solution)
    assert truth != INVALID
    return extracted(completion) == truth


# --- ways to write an answer, given the right number -------------------------------------------------------------------


def shifted(by: int) -> Way:
    return lambda number: str(int(number) + by)


def grouped(number: str) -> str:
    return f"{int(number):,}"


def before_digits(sign: str) -> Way:
    return lambda number: re.sub(r"^(-?)", rf"\g<1>{re.escape(sign)}", number)


RIGHT: dict[str, Way] = {
    "as it is": str,
    "commas": grouped,
    "spaces and lines after it": lambda number: f"{number}  \n\n",
    "a comma or semicolon after it": lambda number: f"{number},",
    "dollars": lambda number: f"{number} dollars",
    "a dollar sign after it": lambda number: f"{number}$",
    "per cent": lambda number: f"{number}%",
    "a unit": lambda number: f"{number} hours",
    "over one": lambda number: f"{number}/1",
    "the marks twice": lambda number: f"#### {number}",
}
"""Right by both."""
WRONG: dict[str, Way] = {
    "one more": shifted(1),
    "one less": shifted(-1),
    "the sign changed": lambda number: str(-int(number)),
    "a digit more": lambda number: f"{number}7",
    "a zero more": lambda number: f"{number}0",
    "a digit changed": lambda number: number[:-1] + str((int(number[-1]) + 5) % 10),
    "a tenth": lambda number: str(int(number) / 10),
    "a half more": lambda number: f"{number}.5",
    "no answer": lambda number: "",
    "no number": lambda number: "I do not know.",
    "the script's own word for none": lambda number: INVALID,
    "two answers, the right one last": lambda number: f"{int(number) + 1} or {number}",
    "two lines of answers, the right one last": lambda number: f"{int(number) + 1}\n#### {number}",
}
"""Wrong by both."""
LENIENT: dict[str, Way] = {
    "zeros after the point": lambda number: f"{number}.0",
    "a point and no more": lambda number: f"{number}.",
    "zeros in front": before_digits("0"),
    "a dollar sign": before_digits("$"),
    "an escaped dollar sign": lambda number: rf"\${number}",
    "another currency": lambda number: f"€{number}",
    "dollar signs of LaTeX": lambda number: f"${number}$",
    "a box": lambda number: rf"\boxed{{{number}}}",
    "bold type": lambda number: f"**{number}**",
    "tags": lambda number: f"<b>{number}</b>",
    "quotes": lambda number: f'"{number}"',
    "a phrase": lambda number: f"The answer is {number}",
    "a name": lambda number: f"x = {number}",
    "about": lambda number: f"about {number}",
    "a space too many": lambda number: f" {number}",
    "a fraction": lambda number: f"{2 * int(number)}/2",
    "a power of ten": lambda number: f"{int(number) / 10}e1",
    "a hundred times as many per cent": lambda number: f"{100 * int(number)}%",
    "full-width digits": lambda number: number.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"}),
}
"""Wrong by the script, which compares characters; right by ours, which compare values: each is the right number."""
STRICTER: dict[str, Way] = {
    "two answers, the right one first": lambda number: f"{number} or {int(number) + 1}",
    "two numbers": lambda number: f"{number}, {int(number) + 1}",
    "two lines of answers, the right one first": lambda number: f"{number}\n#### {int(number) + 1}",
    "a fraction of it": lambda number: f"{number}/2",
    "a sum": lambda number: f"{number} + 2",
    "an equation": lambda number: f"{number} = {number}",
    "a power": lambda number: f"{number}^2",
    "thousands": lambda number: f"{number}e3",
    "a factorial": lambda number: f"{number}!",
    "dozens": lambda number: f"{number} dozen",
    "millions": lambda number: f"{number} million",
    "taken back": lambda number: f"{number} is wrong",
    "a comma where none belongs": lambda number: f"{number[:-1]},{number[-1]}",
    "half a pair of brackets": lambda number: f"{number})",
}
"""Right by the script, which reads the first number and no further; wrong by ours, since what follows changes or spoils it."""
KINDS = {(True, True): RIGHT, (False, False): WRONG, (False, True): LENIENT, (True, False): STRICTER}
"""By what the script says, and what we say."""


# --- tests -----------------------------------------------------------------------------------------------------------


def rows() -> list[tuple[str, str]]:
    """Returns the questions' ids and solutions."""
    if not PATH.exists():
        pytest.skip(f"no {PATH.name} beside the checkout")
    lines = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
    return [(str(line["idx"]), line["answer"]) for line in lines]


def test_it_gives_the_verdicts_its_authors_recorded() -> None:
    found = {
        truth: {answer: is_correct(f"So it is.\n#### {answer}", f"…\n#### {truth}") for answer in answers}
        for truth, answers in GSM8K.items()
    }
    assert found == GSM8K


def test_we_read_the_right_answers_as_the_script_does() -> None:
    solutions, source = rows(), load_benchmark(PATH)
    assert len(solutions) == len(source) == 1319
    assert [source.get(name).answers[0].replace(",", "") for name, _ in solutions] == [extracted(text) for _, text in solutions]


@pytest.mark.turns("part")
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("verdicts", KINDS, ids=["both right", "both wrong", "only ours", "only the script's"])
def test_every_question_answered_in_every_way(verdicts: tuple[bool, bool], part: int) -> None:
    """Each part has all ways, and a third of the questions for each."""
    solutions, source = rows(), load_benchmark(PATH)
    for number, (way, write) in enumerate(KINDS[verdicts].items()):
        for name, solution in solutions[(number + part) % 3 :: 3]:
            answer = write(extracted(solution))
            found = is_correct(f"#### {answer}", solution), check(source.get(name), answer).success
            assert found == verdicts, (way, name, answer)


def test_no_way_to_write_it_makes_a_wrong_number_right() -> None:
    solutions, source = rows(), load_benchmark(PATH)
    for way, write in (RIGHT | LENIENT | STRICTER).items():
        for name, solution in solutions[::10]:
            answer = write(str(int(extracted(solution)) + 1000))
            assert not is_correct(f"#### {answer}", solution), (way, name, answer)
            assert not check(source.get(name), answer).success, (way, name, answer)


def test_signs_spaces_and_names_that_only_some_numbers_have() -> None:
    """The right one is −3 or 70000."""
    for answer in ("−3", "- 3", "–3"):
        assert (is_correct(f"#### {answer}", "#### -3"), right(answer, "-3", "number")) == (False, True)
    for answer in ("70 000", "70\u202f000", "+70000", "70 thousand", r"70{,}000"):
        assert (is_correct(f"#### {answer}", "#### 70,000"), right(answer, "70,000", "number")) == (False, True)


def test_the_script_looks_for_marks_in_a_solution_and_ours_is_given_the_answer() -> None:
    for text, verdicts in (("18", (False, True)), ("#### 18", (True, True)), ("9 * 2 = 18\n#### 18", (True, False))):
        assert (is_correct(text, "#### 18"), right(text, "18", "number")) == verdicts


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), st.booleans(), st.sampled_from(["", " ", "\n"]))
def test_whole_numbers_as_gsm8k_writes_them_are_judged_alike(truth: int, answer: int, commas: bool, after: str) -> None:
    for number in (truth, answer):
        text = (f"{number:,}" if commas else str(number)) + after
        verdicts = is_correct(f"#### {text}", f"#### {truth}"), right(text, str(truth), "number")
        assert verdicts == (number == truth, number == truth)
