r"""The unit at the end of a mathematical expression, told apart from its variables.

Set as text (5\text{ m}), or with its own sign (5°, \$5), it is a unit. Bare letters may be variables: compared with an
expression with a unit they are a unit too, and elsewhere only what nobody writes as a product (5 cents).
"""

import re
from dataclasses import dataclass, replace

import pint  # noqa: F401  # before the worker is confined: it imports other packages that it finds installed

from ..counting import same_words
from ..units import CURRENCY_SIGNS, Unit, parse_unit, reading, without_latex

_TYPEFACE = r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mbox|operatorname)"
_POWER = r"(?:\^\s*\{?-?\d\}?)"
_SET = rf"(?:{_TYPEFACE}\s*\{{[^{{}}]*\}}\s*{_POWER}?)"
_LETTERS = rf"[A-Za-zµμΩ]+\s*{_POWER}?"
_TEXTUAL = re.compile(rf"{_SET}(?:\s*{_SET}|\s*(?:/|\\cdot)\s*(?:{_SET}|{_LETTERS}))*\s*$")
_BARE = re.compile(rf"(?<=[\d}})\s])\s*({_LETTERS}(?:\s*(?:/|\\cdot|\s)\s*{_LETTERS})*)\s*$")
_SURE = re.compile(r"[A-Za-zµμ]{3,}|[kcm]m|[km]g|m[lL]|ms|Hz|Pa|k[WVJNB]|MW|MB|GB|Wh|eV|in|ft|yd|mi|oz|lb|hr|yr|ha|cc")
"""The first word of a unit that can hardly be variables."""
_DEGREES = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})\s*(?:\\(?:text|mathrm)\s*\{\s*)?([CF]?)\s*\}?$")
_SIGN = rf"(?:\\\$|[{CURRENCY_SIGNS}])"
_BEFORE = re.compile(rf"^(-?)\s*({_SIGN})\s*(?=[-\d.\\])")
_BEHIND = re.compile(rf"(?<=[\d}}])\s*({_SIGN})\s*$")
_PERCENT = re.compile(r"\s*\\?%\s*$|\s*\\(?:text|mbox)\{\s*(?:percent|\\%|%)\s*\}\s*$")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|arc[a-z]+|log|ln|exp)(?![a-z])")


@dataclass(frozen=True)
class Measured:
    """An expression with the unit that followed it (a currency: preceded or followed it).

    Args:
        text: the expression alone.
        words: the unit as written, "" without one.
        unit: None for words that are not a known unit.
    """

    text: str
    words: str = ""
    unit: Unit | None = None


def measured(text: str) -> Measured:
    r"""Takes the unit off an expression; nothing that could be a variable is taken for a unit.

    >>> [measured(text).text for text in (r"15\mbox{ cm}^2", r"\$36", r"145^\circ", "5 cents", r"50\%", "3m", r"\sin 30^\circ")]
    ['15', '36', '145', '5', '50', '3m', '\\sin 30^\\circ']
    """
    text = text.strip()
    if found := _BEFORE.match(text):
        return Measured(found[1] + text[found.end() :], found[2], parse_unit(found[2]))
    if found := _BEHIND.search(text):
        return Measured(text[: found.start()].strip(), found[1], parse_unit(found[1]))
    for pattern, unit in ((_PERCENT, "%"), (_DEGREES, "°")):
        found = pattern.search(text)
        if found and found.start() > 0 and not _FUNCTION.search(text):
            unit += found[1] if pattern is _DEGREES else ""
            return Measured(text[: found.start()].strip(), unit, parse_unit(unit))
    if (found := _TEXTUAL.search(text)) and found.start() > 0:
        words = found[0].strip()
        alone = re.sub(rf"{_TYPEFACE}\s*\{{([^{{}}]*)\}}", r"\1", words).strip()
        return Measured(text[: found.start()].strip(), alone, parse_unit(alone))
    bare = _bare(text)
    return bare if bare is not None and _SURE.fullmatch(re.split(r"[^A-Za-zµμ]", bare.words)[0]) else Measured(text)


def measured_pair(one: str, other: str) -> tuple[Measured, Measured]:
    r"""Takes the units off two expressions that are compared: if one has a unit, the other's bare letters are a unit too.

    >>> [found.text for text in ("3", r"3\text{ m}", "3n") for found in measured_pair("3m", text)]
    ['3m', '3', '3', '3', '3m', '3n']
    """
    left, right = measured(one), measured(other)
    if right.unit and not left.words:
        left = _bare(one) or left
    if left.unit and not right.words:
        right = _bare(other) or right
    if left.unit and right.unit:
        units = reading(left.words, right.unit), reading(right.words, left.unit)
        return replace(left, unit=units[0]), (right if units[0] != left.unit else replace(right, unit=units[1]))
    return left, right


def same_unit(one: Measured, other: Measured) -> bool:
    """Says whether two expressions measure the same thing; a known unit may be missing on either side."""
    if one.unit and other.unit:
        return one.unit.dimensions == other.unit.dimensions and one.unit.offset == other.unit.offset
    if one.words and other.words:
        return same_words(without_latex(one.words), without_latex(other.words))
    return all(found.unit is not None or not found.words for found in (one, other))


def _bare(text: str) -> Measured | None:
    found = _BARE.search(text)
    if found is None or found.start() == 0 or text[: found.start() + 1].rstrip().endswith("\\"):
        return None
    unit = parse_unit(found[1])
    return Measured(text[: found.start(1)].strip(), found[1].strip(), unit) if unit is not None else None
