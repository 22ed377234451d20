"""Answers of the type "number": a value with, perhaps, a unit, compared exactly or within a tolerance."""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

from ..errors import ConfigError
from ..tasks.text import plain
from .counting import is_counted, same_words
from .mathematics.latex import joined_thousands, too_wild
from .units import CURRENCY_CODES, CURRENCY_SIGNS, Unit, leading_unit, parse_unit, reading, without_latex
from .verdict import Verdict
from .wrapping import unwrapped

MAX_EXPONENT = 400
"""Larger powers of ten are not computed."""
_ROUNDING = Fraction(1, 10**9)
"""Relative; how much two spellings of one fraction may differ if no tolerance is asked for."""

_CLEAN = str.maketrans({**dict.fromkeys("−–—", "-"), **dict.fromkeys("\u00a0\u2009\u202f\t\n", " "), "⁄": "/"})
_LATEX = {r"\!": "", "{,}": ",", r"\,": " ", r"\%": "%", "$^\\circ$": "°", r"^\circ": "°", r"^{\circ}": "°"}
_NAME = re.compile(r"^(?:([^\W\d_]|\\[a-zA-Z]+)(?:_\{?\w+\}?)?(?:\([a-z]\))?\s*(?:=|≈|\\approx)\s*)")
_CURRENCY = re.compile(
    rf"^([+-]?)\s*(\\\$|US\$|[{CURRENCY_SIGNS}]|(?:{'|'.join(CURRENCY_CODES)})(?![a-zA-Z])|Rs\b\.?)\s*([+-]?)"
)
_APPROXIMATELY = re.compile(r"^(?:about|approximately|approx\.?|roughly|\\approx|≈|~|=)\s*", re.IGNORECASE)
_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{\s*([+-]?\d+)\s*\}|(\d))\s*(?:\{\s*([+-]?\d+)\s*\}|(\d))")
_DIGITS = r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)"
_RAISED = r"(?:\^|\*\*)\s*"
_TIMES = r"(?:×|·|⋅|∙|x|X|\*|\\times|\\cdot)"
_NUMBER = re.compile(
    rf"^(?P<sign>[+-]?)\s*(?:(?P<whole>\d+)\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+)"
    rf"|(?P<over>{_DIGITS})\s*/\s*(?P<under>[+-]?{_DIGITS})"
    rf"|10\s*{_RAISED}[({{]?\s*(?P<alone>[+-]?\d{{1,6}})\s*[)}}]?"
    rf"|(?P<decimal>{_DIGITS}(?:\.\d*)?|\.\d+)"
    rf"(?:\s*(?:[eE]|{_TIMES}\s*10\s*{_RAISED})\s*[({{]?\s*(?P<power>[+-]?\d{{1,6}})\s*[)}}]?)?)"
    r"(?![\d.,]*\d)\s*"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT_POWER = re.compile("10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+)")
_WORDS = re.compile(r"^[^\W\d_]+(?:[\s'’-]+[^\W\d_]+){0,5}$")
_EACH = re.compile(r"/|(?:per|an?)\b")
_MULTIPLES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


@dataclass(frozen=True)
class Quantity:
    """A number with whatever was written next to it.

    Args:
        value: in its unit.
        unit: the words after the number begin with it, or a currency precedes it; None without one.
        words: what follows the number as written, a currency first; "" for nothing.
        rest: the words that are not a unit.
        decimal: whether it was written with a decimal point or a power of ten, and so may be rounded.
        name: x in "x = 5".
    """

    value: Fraction
    unit: Unit | None = None
    words: str = ""
    rest: str = ""
    decimal: bool = False
    name: str = ""


def parse_quantity(text: str) -> Quantity | None:
    r"""Returns the number in a text, with the words after it; None if it is anything else.

    >>> [str(parse_quantity(text).value) for text in ("1,234.5", "2 1/2", r"\frac{-1}{2}", "6.5e-1", "$12", "−3", "2 million")]
    ['2469/2', '5/2', '-1/2', '13/20', '12', '-3', '2000000']
    >>> parse_quantity("1,5"), parse_quantity("12 km").words, parse_quantity("x + 1"), parse_quantity("5!")
    (None, 'km', None, None)
    """
    if too_wild(text):
        return None
    text = _spelt(unwrapped(plain(text)))
    name = _NAME.match(text)
    text = re.sub(r"^([+-])\s*([+-]?\d)", r"\1\2", _APPROXIMATELY.sub("", text[name.end() if name else 0 :]))
    currency = _CURRENCY.match(text)
    if currency:
        text = currency[1] + currency[3] + text[currency.end() :]
    found = _NUMBER.match(text)
    value = _value(found) if found else None
    if found is None or value is None:
        return None
    multiple, words = _multiple(without_latex(text[found.end() :]))
    behind = _behind(words, currency[2] if currency else "")
    if behind is None or not _groups_close(text):
        return None
    unit, rest, words = behind
    decimal = bool(found["decimal"] and ("." in found[0] or found["power"]))
    return Quantity(value * multiple, unit, words, rest, decimal, name[1] if name else "")


def _groups_close(text: str) -> bool:
    depths = list(accumulate((character == "{") - (character == "}") for character in text))
    return not depths or (min(depths) >= 0 and depths[-1] == 0)


def _spelt(text: str) -> str:
    """Returns LaTeX's and Unicode's spellings of numbers as plain text."""
    text = "".join(map(_vulgar, text.translate(_CLEAN)))
    for old, new in _LATEX.items():
        text = text.replace(old, new)
    text = joined_thousands(_SUPERSCRIPT_POWER.sub(lambda match: "10^" + match[1].translate(_SUPERSCRIPTS), text))
    return _FRAC.sub(lambda match: f" {match[1] or match[2]}/{match[3] or match[4]}", text).strip()


def _vulgar(character: str) -> str:
    decomposed = unicodedata.decomposition(character)
    whole = decomposed.startswith("<fraction>") and not decomposed.endswith(" 2044")  # ⅟ is only the beginning of one
    return " " + unicodedata.normalize("NFKC", character).replace("⁄", "/") if whole else character


def _value(found: re.Match[str]) -> Fraction | None:
    def whole(text: str) -> int:
        return int(text.replace(",", ""))

    if found["whole"] or found["over"]:
        top, bottom = (found["top"], found["bottom"]) if found["whole"] else (found["over"], found["under"])
        if whole(bottom) == 0:
            return None
        value = Fraction(whole(found["whole"] or "0")) + Fraction(whole(top), whole(bottom))
    else:
        power = int(found["alone"] or found["power"] or 0)
        if abs(power) > MAX_EXPONENT:
            return None
        value = Fraction((found["decimal"] or "1").replace(",", "").rstrip(".")) * Fraction(10) ** power
    return -value if found["sign"] == "-" else value


def _multiple(words: str) -> tuple[int, str]:
    """Takes "million" and the like off the beginning of words."""
    multiple = 1
    for name, size in _MULTIPLES.items():
        if words.lower() == name or words.lower().startswith(name + " "):
            multiple, words = multiple * size, words[len(name) :].strip()
    return multiple, words


def _behind(words: str, currency: str) -> tuple[Unit | None, str, str] | None:
    """Returns the unit, the other words, and both as written; None if anything but words is there.

    Args:
        words: those after the number.
        currency: the one before it, "" without one.
    """
    if not words and not currency:
        return None, "", ""
    unit, rest = leading_unit(words)
    if currency and unit != parse_unit(currency):  # "$5 dollars" says it twice
        unit, rest = leading_unit(f"{currency} {words}") if _EACH.match(words) else (parse_unit(currency), words)
        words = f"{currency} {words}".strip()
    if (rest or unit is None) and (not _WORDS.match(rest) or any(map(str.isnumeric, rest))):
        return None  # more than words; a raised digit counts as a letter in patterns
    if unit is not None and any(parse_unit(word) is not None for word in rest.split()):
        return None  # two units that do not make one together
    return unit, rest, words


@dataclass(frozen=True)
class Tolerance:
    """How far a number may lie from the expected one.

    Args:
        size: 0 for exact (fractions that are not whole may then be rounded at the ninth digit).
        relative: whether `size` is a share of the expected number rather than a difference.
    """

    size: Fraction = Fraction(0)
    relative: bool = False

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Tolerance":
        """Reads meta["tolerance"] and meta["relative"].

        Raises:
            ConfigError: one of them makes no sense.
        """
        size, relative = meta.get("tolerance", 0), meta.get("relative", False)
        if isinstance(size, bool) or not isinstance(size, int | float | Fraction) or not 0 <= size < math.inf:
            raise ConfigError(f"A task's 'tolerance' must be a non-negative number, got {size!r:.40}.")
        if not isinstance(relative, bool):
            raise ConfigError(f"A task's 'relative' must be true or false, got {relative!r:.40}.")
        return cls(Fraction(str(size)), relative)

    def admits(self, given: Fraction, expected: Fraction, decimal: bool) -> bool:
        """Says whether a number is near enough; `decimal`: one of them was written as a decimal fraction."""
        gap = abs(given - expected)
        if self.size:
            return gap <= self.size * (abs(expected) if self.relative else 1)
        return gap == 0 or (decimal and expected.denominator != 1 and gap <= _ROUNDING * max(abs(given), abs(expected)))


def judge_number(answer: str, accepted: tuple[str, ...], meta: Mapping[str, Any], question: str = "") -> Verdict:
    """Returns whether an answer is one of the accepted numbers.

    The number may be followed by a unit, a currency, a percent sign, or what the task counts (`is_counted`); nothing else. A
    unit may be missing on either side and is then ignored. If both have one, they must measure the same thing and are
    converted; words that are not a unit must be the same words. 50% is 50 percent and 0.5.

    Args:
        answer: what was given.
        accepted: what was expected.
        meta: the task's; "tolerance" and "relative" are read, and "unit", that of accepted answers that have none.
        question: the task's.

    Raises:
        ConfigError: an accepted answer is not a number, or the tolerance makes no sense.

    >>> judge_number("12 km", ("12000 m",), {}).success, judge_number("3.1", ("3.14",), {"tolerance": 0.05}).success
    (True, True)
    >>> [judge_number(text, ("5",), {}, "How many apples?").success for text in ("5 apples", "5 pears", "5!", "5 dozen")]
    [True, False, False, False]
    """
    tolerance = Tolerance.of(meta)
    unit = meta.get("unit")
    targets = [_target(text, unit if isinstance(unit, str) else "") for text in accepted]
    given = parse_quantity(answer)
    if given is None:
        return Verdict.of(False, "not a number")
    verdicts = [_compare(given, target, tolerance, question) for target in targets]
    return next((verdict for verdict in verdicts if verdict.success), verdicts[0] if verdicts else Verdict.of(False))


def _target(text: str, unit: str) -> Quantity:
    target = parse_quantity(text)
    if target is None:
        raise ConfigError(f'The expected answer {text!r:.60} is not a number, but the task\'s answer_type is "number".')
    with_unit = parse_quantity(f"{text} {unit}") if unit.strip() and not target.words else None
    return with_unit or target


def _compare(given: Quantity, expected: Quantity, tolerance: Tolerance, question: str) -> Verdict:
    if given.name and expected.name and given.name != expected.name:
        return Verdict.of(False, f"{given.name} instead of {expected.name}")
    if not _may_stand(given, expected, question):
        return Verdict.of(False, f"{given.words or 'nothing'} instead of {expected.words or 'nothing'}"[:80])
    unit = reading(given.words, expected.unit) if given.unit and expected.unit and not given.rest else given.unit
    wanted = reading(expected.words, unit) if unit and expected.unit and not expected.rest else expected.unit
    decimal = given.decimal or expected.decimal
    if unit and wanted:
        if unit.dimensions != wanted.dimensions:
            return Verdict.of(False, f"{given.words} instead of {expected.words}")
        there = given.value * unit.factor + unit.offset  # in base units, then in the expected unit
        value = (there - wanted.offset) / wanted.factor
        return Verdict.of(tolerance.admits(value, expected.value, decimal or unit != wanted))
    if tolerance.admits(given.value, expected.value, decimal):
        return Verdict.of(True)
    one, other = _readings(given), _readings(expected)
    return Verdict.of(any(tolerance.admits(a, b, decimal) for a in one for b in other))


def _may_stand(given: Quantity, expected: Quantity, question: str) -> bool:
    """Says whether the words after two numbers agree; a unit or a noun may be missing on either side."""
    if given.words and expected.words and (given.unit is None) != (expected.unit is None):
        return False  # a unit is not a noun
    if given.rest and expected.rest:
        return same_words(given.rest, expected.rest)
    if given.rest:
        return is_counted(given.rest.removeprefix("per "), question, (expected.words,))
    return not expected.rest or is_counted(expected.rest, question, (expected.rest,))


def _readings(quantity: Quantity) -> list[Fraction]:
    """Returns what a number may mean compared with one without a percent sign: 50% is 50 percent and 0.5."""
    pure = quantity.unit is not None and not quantity.unit.dimensions
    return [quantity.value, quantity.value * quantity.unit.factor] if pure and quantity.unit else [quantity.value]
