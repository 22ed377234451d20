"""The rows of the checker table about mathematics as plain `math-verify` judges them; run it as a script.

Both answers are given to it as its own page has it, between dollar signs unless they bring marks of their own.
"""

import warnings
from collections import Counter
from pathlib import Path

from math_verify import parse, verify

TABLE = Path(__file__).with_name("checker_table.tsv")


def plain_verdict(given: str, expected: str) -> bool:
    """Returns whether `math-verify` with its defaults calls two answers equal."""

    def marked(text: str) -> str:
        return text if any(mark in text for mark in ("$", r"\boxed", r"\[", r"\(")) else f"${text}$"

    target, answer = (parse(marked(text), parsing_timeout=None) for text in (expected, given))
    return bool(verify(target, answer, timeout_seconds=5))


def differences() -> tuple[Counter[str], list[str]]:
    """Returns how often it pays a wrong answer, refuses a right one, or agrees; and the rows where it differs."""
    counts, lines, section = Counter[str](), [], ""
    for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]:
        if "\t" not in line:
            section = line.lstrip("# ")
            continue
        given, expected, kind, equal = line.split("\t")[:4]
        if kind == "math":
            verdict = plain_verdict(given, expected)
            what = "agrees" if verdict is (equal == "yes") else "pays a wrong answer" if verdict else "refuses a right one"
            counts[what] += 1
            if what != "agrees":
                lines.append(f"{section}: {what}: {given} for {expected}")
    return counts, lines


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found, rows_that_differ = differences()
    print("\n".join(rows_that_differ))  # noqa: T201  # a script's output
    print(dict(found))  # noqa: T201
