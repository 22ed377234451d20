"""Answers of the type "number": a value with, perhaps, a unit, compared exactly or within a tolerance."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..errors import ConfigError
from ..tasks.text import plain
from .counting import is_counted
from .latex import too_wild
from .units import Unit, parse_unit
from .verdict import Verdict
from .wrapping import unwrapped

MAX_EXPONENT = 400
"""Powers of ten beyond this are not computed."""
_ROUNDING = Fraction(1, 10**9)
"""Relative; what two spellings of one fraction may differ by where no tolerance is asked for."""

_CLEAN = str.maketrans({**dict.fromkeys("−–—", "-"), **dict.fromkeys("\u00a0\u2009\u202f\t\n", " "), "⁄": "/"})
_VULGAR = {"½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅛": " 1/8"}
_CURRENCY = re.compile(r"^([+-]?)\s*(\\\$|\$|€|£|¥|₹)\s*([+-]?)")
_NAME = re.compile(r"^(?:[a-zA-Z]|\\[a-z]+)(?:_\{?\w+\}?)?\s*(?:=|≈|\\approx(?![a-zA-Z]))\s*")
_TYPEFACE = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
_APPROXIMATELY = re.compile(r"^(?:about|approximately|approx\.?|roughly|\\approx|≈|~|=)\s*", re.IGNORECASE)
_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{\s*([+-]?\d+)\s*\}|(\d))\s*(?:\{\s*([+-]?\d+)\s*\}|(\d))")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_NUMBER = re.compile(
    rf"^(?P<sign>[+-]?)\s*(?:(?P<whole>\d+)\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+)"
    rf"|(?P<over>{_DIGITS})\s*/\s*(?P<under>[+-]?{_DIGITS})"
    rf"|(?P<decimal>{_DIGITS}(?:\.\d*)?|\.\d+)"
    r"(?:\s*(?:[eE]|(?:×|x|X|\*|\\times|\\cdot)\s*10\s*(?:\^|\*\*))\s*(?P<braces>[({]?)\s*(?P<power>[+-]?\d{1,6})[)}]?)?)"
    r"(?![\d.,]*\d)\s*"
)
_WORDS = re.compile(r"^[^\W\d_]+(?:[\s'-]+[^\W\d_]+){0,5}$")
_MULTIPLES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


@dataclass(frozen=True)
class Quantity:
    """A number with the unit it was written with.

    Args:
        value: in that unit.
        unit: None without one, or for words that are not known as a unit.
        words: what stands behind the number: its unit, or words that may say what is counted; "" without either.
        decimal: whether it was written with a decimal point or a power of ten, and may so be rounded.
    """

    value: Fraction
    unit: Unit | None = None
    words: str = ""
    decimal: bool = False


def parse_quantity(text: str) -> Quantity | None:
    r"""Returns the number a text is, None if it is anything else.

    >>> [str(parse_quantity(text).value) for text in ("1,234.5", "2 1/2", r"\frac{-1}{2}", "6.5e-1", "$12", "−3", "2 million")]
    ['2469/2', '5/2', '-1/2', '13/20', '12', '-3', '2000000']
    >>> parse_quantity("1,5"), parse_quantity("12 km").words, parse_quantity("x + 1")
    (None, 'km', None)
    """
    if too_wild(text):
        return None
    text = _TYPEFACE.sub(r" \1", unwrapped(plain(text).translate(_CLEAN))).replace(r"\!", "").replace("{,}", ",")
    text = text.replace(r"\,", " ").replace(r"\%", "%").replace(r"^\circ", "°").replace(r"^{\circ}", "°")
    text = _SUPERSCRIPT_POWER.sub(lambda match: "10^" + match[1].translate(_SUPERSCRIPTS), _NAME.sub("", text))
    for sign, spelt in _VULGAR.items():
        text = text.replace(sign, spelt)
    text = _FRAC.sub(lambda match: f" {match[1] or match[2]}/{match[3] or match[4]}", text).strip()
    text = re.sub(r"^([+-])\s*([+-]?\d)", r"\1\2", _APPROXIMATELY.sub("", text))
    currency = _CURRENCY.match(text)
    if currency:
        text = currency[1] + currency[3] + text[currency.end() :]
    found = _NUMBER.match(text)
    value = _value(found) if found else None
    if found is None or value is None:
        return None
    words = text[found.end() :].strip()
    for name, multiple in _MULTIPLES.items():
        if words.lower() == name or words.lower().startswith(name + " "):
            value, words = value * multiple, words[len(name) :].strip()
    words = (words or currency[2]) if currency else words
    unit = parse_unit(words) if words else None
    if words and unit is None and not _WORDS.match(words):
        return None  # more than a unit stands behind the number
    return Quantity(value, unit, words, bool(found["decimal"] and ("." in found[0] or found["power"])))


def counted_by(text: str) -> str:
    r"""Returns the words behind a number that are no unit; "" for a text that is anything else.

    >>> counted_by(r"5\text{ apples}"), counted_by("5 km"), counted_by("x + 1")
    ('apples', '', '')
    """
    quantity = parse_quantity(text)
    return quantity.words if quantity is not None and quantity.unit is None else ""


_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT_POWER = re.compile("10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+)")


def _value(found: re.Match[str]) -> Fraction | None:
    def whole(text: str) -> int:
        return int(text.replace(",", "").replace(" ", ""))

    if found["whole"] or found["over"]:
        top, bottom = (found["top"], found["bottom"]) if found["whole"] else (found["over"], found["under"])
        if whole(bottom) == 0:
            return None
        value = Fraction(whole(found["whole"] or "0")) + Fraction(whole(top), whole(bottom))
    else:
        power = int(found["power"] or 0)
        if abs(power) > MAX_EXPONENT:
            return None
        value = Fraction(found["decimal"].replace(",", "").replace(" ", "").rstrip(".")) * Fraction(10) ** power
    return -value if found["sign"] == "-" else value


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
            raise ConfigError(f"A task's 'tolerance' must be a number that is not negative, got {size!r:.40}.")
        if not isinstance(relative, bool):
            raise ConfigError(f"A task's 'relative' must be true or false, got {relative!r:.40}.")
        return cls(Fraction(str(size)), relative)

    def admits(self, given: Fraction, expected: Fraction, decimal: bool) -> bool:
        """Says whether a number is near enough; `decimal`: one of them was written as a decimal fraction."""
        gap = abs(given - expected)
        if self.size:
            return gap <= self.size * (abs(expected) if self.relative else 1)
        return gap == 0 or (decimal and expected.denominator != 1 and gap <= _ROUNDING * max(abs(given), abs(expected)))


def check_number(answer: str, accepted: tuple[str, ...], meta: Mapping[str, Any], question: str = "") -> Verdict:
    """Returns whether an answer is one of the accepted numbers.

    Behind the number may stand a unit, a currency, a percent sign, or what the task counts (`is_counted`); nothing else. A
    unit may be missing on either side and is then not looked at. Where both have one, they must measure the same thing and
    are converted; words that are no unit must be the same words. 50% is 50 percent and 0.5.

    Args:
        answer: what was given.
        accepted: what was expected.
        meta: of the task; "tolerance" and "relative" are read.
        question: of the task.

    Raises:
        ConfigError: an accepted answer is no number, or the tolerance makes no sense.

    >>> check_number("12 km", ("12000 m",), {}).success, check_number("3.1", ("3.14",), {"tolerance": 0.05}).success
    (True, True)
    >>> [check_number(text, ("5",), {}, "How many apples?").success for text in ("5 apples", "5 pears", "5!", "5 dozen")]
    [True, False, False, False]
    """
    tolerance = Tolerance.of(meta)
    targets = [(text, parse_quantity(text)) for text in accepted]
    for text, target in targets:
        if target is None:
            raise ConfigError(f'The expected answer {text!r:.60} is no number, but the task\'s answer_type is "number".')
    given = parse_quantity(answer)
    beside = [target.words for _, target in targets if target is not None]
    if given is None or (given.words and given.unit is None and not is_counted(given.words, question, beside)):
        return Verdict.of(False, "not a number")
    verdicts = [_compare(given, target, tolerance) for _, target in targets if target is not None]
    return next((verdict for verdict in verdicts if verdict.success), verdicts[0] if verdicts else Verdict.of(False))


def _compare(given: Quantity, expected: Quantity, tolerance: Tolerance) -> Verdict:
    decimal = given.decimal or expected.decimal
    if given.unit and expected.unit:
        if given.unit.dimensions != expected.unit.dimensions:
            return Verdict.of(False, f"{given.words} instead of {expected.words}")
        there = given.value * given.unit.factor + given.unit.offset  # in base units, then in the expected unit
        value = (there - expected.unit.offset) / expected.unit.factor
        return Verdict.of(tolerance.admits(value, expected.value, decimal or given.unit != expected.unit))
    if given.words and expected.words and not same_words(given.words, expected.words):
        return Verdict.of(False, f"{given.words} instead of {expected.words}"[:80])
    if tolerance.admits(given.value, expected.value, decimal):
        return Verdict.of(True)
    one, other = _readings(given, expected)
    return Verdict.of(any(tolerance.admits(a, b, decimal) for a in one for b in other))


def _readings(given: Quantity, expected: Quantity) -> tuple[list[Fraction], list[Fraction]]:
    """Returns what two numbers may mean where only one of them has a percent sign: 50% is 50 percent and 0.5."""

    def both(quantity: Quantity) -> list[Fraction]:
        pure = quantity.unit is not None and not quantity.unit.dimensions
        return [quantity.value, quantity.value * quantity.unit.factor] if pure and quantity.unit else [quantity.value]

    return both(given), both(expected)


def same_words(one: str, other: str) -> bool:
    """Says whether two units that are not known are the same words, but for case, plural and LaTeX.

    >>> same_words("eggs", "Egg"), same_words("eggs", "ducks")
    (True, False)
    """
    left, right = (re.sub(r"\\text|[{}\\.]", "", text).casefold().split() for text in (one, other))
    return [word.removesuffix("s") for word in left] == [word.removesuffix("s") for word in right]
