"""The layouts of published files: GSM8K, MATH, AIME, and question answering as in HotpotQA.

`load_benchmark` reads a JSON Lines file, detects its layout from its columns, and gives each task the answer type it needs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigError, unknown_name
from ...rewards.quantities import parse_quantity
from ...rewards.wrapping import unwrapped
from .. import Task, lines
from ..files import ListedTasks

Kind = Literal["gsm8k", "math", "aime", "qa"]

KINDS: Mapping[str, Kind] = {
    **{"gsm8k": "gsm8k", "math": "math", "math500": "math", "aime": "aime", "aime24": "aime", "aime25": "aime", "qa": "qa"},
    **dict.fromkeys(("hotpotqa", "2wiki", "musique", "bamboogle", "simpleqa", "webwalker"), "qa"),
}
"""Layouts by name; several benchmarks share one."""

ANSWER_TYPES: Mapping[Kind, str] = {"gsm8k": "number", "math": "math", "aime": "math", "qa": "text"}
"""How answers of each layout are judged."""

_QUESTIONS = ("question", "problem", "query")
_ANSWERS = ("answer", "answers", "golden_answers", "gold_answers")
_NAMES = ("id", "_id", "unique_id", "idx")
_RESERVED = frozenset({"answer_type", "scorer", "options", "tolerance", "relative"})
_EXPECTED = '{"question": "…", "answer": "…"}'
_NUMBER = re.compile(r"^[-−+$\\]*\d[\d,.]*%?$")
_LATEX = re.compile(r"\$.*\$|\\[a-zA-Z]+")

Row = tuple[int, Mapping[str, Any]]
"""A row with its number in the file."""


class BenchmarkTasks(ListedTasks):
    """The questions of a benchmark's file, drawn uniformly.

    Args:
        path: the file, UTF-8, one JSON object on each line.
        kind: a name of `KINDS`.

    Raises:
        ConfigError: the file is missing or empty, or a line does not fit the layout; the message names the line.
    """

    def __init__(self, path: str | Path, kind: str) -> None:
        if kind not in KINDS:
            raise unknown_name("benchmark layout", kind, [*KINDS, "auto"])
        self.kind = KINDS[kind]
        rows = _lower_rows(Path(path))
        super().__init__(
            Path(path),
            self.kind,
            ((number, Reader(Path(path), f"line {number}", row, self.kind).task()) for number, row in rows),
        )


def load_benchmark(path: str | Path, kind: str = "auto") -> BenchmarkTasks:
    """Returns the tasks of a benchmark's file.

    Columns: the question is "question" or "problem", the answer "answer", "answers" or "golden_answers" (a string, a number
    or a list of strings; in MATH's own layout the box in "solution"). GSM8K's answer follows "####". Everything else
    goes into the task's `meta`.

    Args:
        path: the file, UTF-8, one JSON object on each line.
        kind: "gsm8k", "math", "aime", "qa", a benchmark's name such as "hotpotqa", or "auto" to detect it.

    Raises:
        ConfigError: the file is missing or not in one of these layouts, or "auto" cannot tell which it is.
    """
    return BenchmarkTasks(path, _detect(Path(path)) if kind == "auto" else kind)


def _lower_rows(path: Path) -> Iterator[Row]:
    """Yields the rows with column names in lower case: AIME's files disagree about them."""
    for number, row in lines.rows(path, _EXPECTED):
        yield number, {str(key).lower(): value for key, value in row.items()}


def _detect(path: Path) -> Kind:
    """Finds the layout from the columns or, if several layouts share those, from their contents."""
    rows = list(_lower_rows(path))
    for number, row in rows:
        if _first(row, _QUESTIONS) is None or _first(row, (*_ANSWERS, "solution")) is None:
            raise ConfigError(
                f"{path}, line {number}: no known layout. Expected a question in one of {', '.join(_QUESTIONS)} and an answer "
                f"in one of {', '.join(_ANSWERS)}; the columns are {', '.join(row) or 'none'}."
            )
    answers = [_first(row, (*_ANSWERS, "solution")) for _, row in rows]
    questions = [str(_first(row, _QUESTIONS)) for _, row in rows]
    if all(isinstance(answer, list) for answer in answers):
        return "qa"
    if all(re.fullmatch(r"\d{1,3}", str(answer)) for answer in answers):
        return "aime"
    texts = [str(answer) for answer in answers]
    if all("####" in text for text in texts):
        return "gsm8k"
    latex = _share(questions, _LATEX) + _share(texts, _LATEX)
    if latex >= 0.3 and not any(isinstance(answer, list) for answer in answers):
        return "math"
    if latex < 0.05 and _share(texts, _NUMBER) < 0.5:
        return "qa"
    raise ConfigError(
        f"{path}: cannot tell from the columns ({', '.join(rows[0][1])}) whether the answers are mathematics or short texts. "
        'Say kind="math", kind="gsm8k" or kind="qa".'
    )


def _share(texts: Sequence[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.search(text) is not None for text in texts) / len(texts)


def _first(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    return next((row[column] for column in columns if row.get(column) is not None), None)


@dataclass(frozen=True)
class Reader:
    """One row of a file on its way to becoming a task; `place` says where it stands, such as "line 3"."""

    path: Path
    place: str
    row: Mapping[str, Any]
    kind: Kind

    def task(self) -> Task:
        """Returns the row as a task.

        Raises:
            ConfigError: it does not fit the layout.
        """
        question = _first(self.row, _QUESTIONS)
        if not isinstance(question, str) or not question.strip():
            raise self._error(f"a question in one of {', '.join(_QUESTIONS)}", question)
        answers, extra = self._answers()
        used = {*_QUESTIONS, *_ANSWERS, *_NAMES, *_RESERVED}
        meta = {key: value for key, value in self.row.items() if key not in used}
        return Task(self._name(), question, answers, {**meta, **extra, "answer_type": ANSWER_TYPES[self.kind]})

    def _answers(self) -> tuple[tuple[str, ...], Mapping[str, Any]]:
        given = _first(self.row, _ANSWERS)
        if self.kind == "gsm8k":
            return self._after_marks(given)
        if given is None and self.kind in ("math", "aime"):
            given = self._boxed()
        texts = [str(item) if _is_number(item) else item for item in (given if isinstance(given, list) else [given])]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise self._error("an answer: a string, a number or a list of strings", given)
        aliases = self.row.get("answer_aliases")  # MuSiQue's
        if isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases):
            texts += [alias for alias in aliases if alias.strip()]
        return tuple(dict.fromkeys(text.strip() for text in texts)), {}

    def _after_marks(self, given: Any) -> tuple[tuple[str, ...], Mapping[str, Any]]:
        if _is_number(given):
            return (str(given),), {}
        if not isinstance(given, str) or "####" not in given:
            raise self._error('an answer that ends in "#### 18"', given)
        solution, _, final = given.rpartition("####")
        if parse_quantity(final.strip()) is None:
            raise self._error('a number after "####"', final)
        return (final.strip(),), {"solution": solution.strip()}

    def _boxed(self) -> str | None:
        solution = self.row.get("solution")
        return unwrapped(solution) if isinstance(solution, str) and r"\boxed" in solution else None

    def _name(self) -> str:
        name = _first(self.row, _NAMES)
        if name is None:
            return self.place.split()[-1]
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise self._error("an id that is a string or a whole number", name)
        return str(name)

    def _error(self, expected: str, got: Any) -> ConfigError:
        found = "nothing" if got is None else repr(got)[:60]
        return ConfigError(f"{self.path}, {self.place}: expected {expected}, got {found} (layout {self.kind!r}).")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
