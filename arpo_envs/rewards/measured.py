"""The unit at the end of a mathematical expression, told apart from its variables."""

import re
from dataclasses import dataclass

from .units import Unit, parse_unit

_TEXTUAL = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mbox|operatorname)\s*\{([^{}]*)\}\s*((?:\^\s*\{?\d\}?)?)\s*$")
_WORDS = re.compile(r"(?<=[\d})\s])\s*((?:[A-Za-zµμ]{2,}|per|/|\s)+(?:\^\s*\{?\d\}?)?)\s*$")
_QUOTIENT = re.compile(r"(?<=[\d})\s])\s*([A-Za-zµμ]+(?:\^\{?\d\}?)?\s*/\s*[A-Za-zµμ]+(?:\^\{?\d\}?)?)\s*$")
_DEGREES = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})\s*(?:\\(?:text|mathrm)\s*\{\s*)?([CF]?)\s*\}?$")
_CURRENCY = re.compile(r"^(-?)\s*(\\\$|[$€£¥₹])\s*(?=[-\d.\\])")
_CURRENCY_BEHIND = re.compile(r"(?<=[\d}])\s*(\\\$|[$€£¥₹¢])$")
_PERCENT = re.compile(r"\s*\\?%\s*$|\s*\\(?:text|mbox)\{\s*(?:percent|\\%|%)\s*\}\s*$")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|arc[a-z]+|log|ln|exp)(?![a-z])")


@dataclass(frozen=True)
class Measured:
    """An expression with the unit that stood behind it (a currency: before it).

    Args:
        text: the expression alone.
        words: the unit as written, "" without one.
        unit: None for words that are no known unit.
    """

    text: str
    words: str = ""
    unit: Unit | None = None


def measured(text: str) -> Measured:
    r"""Takes the unit off an expression; nothing that could be a variable is taken for one.

    >>> [measured(text).text for text in (r"15\mbox{ cm}^2", r"\$36", r"145^\circ", "5 cents", r"50\%", "3m", r"\sin 30^\circ")]
    ['15', '36', '145', '5', '50', '3m', '\\sin 30^\\circ']
    >>> measured("30 km/h").text, measured("5€").text, measured("3 x/y").text
    ('30', '5', '3 x/y')
    """
    text = text.strip()
    if found := _CURRENCY.match(text):
        rest = found[1] + text[found.end() :]
        return Measured(rest, found[2], parse_unit(found[2]))
    if found := _CURRENCY_BEHIND.search(text):
        return Measured(text[: found.start()], found[1], parse_unit(found[1]))
    for pattern, unit in ((_PERCENT, "%"), (_DEGREES, "°")):
        found = pattern.search(text)
        if found and found.start() > 0 and not _FUNCTION.search(text):
            unit += found[1] if pattern is _DEGREES else ""
            return Measured(text[: found.start()].strip(), unit, parse_unit(unit))
    if (found := _TEXTUAL.search(text)) and found.start() > 0:
        words = (found[1].strip() + found[2].replace(" ", "")).strip()
        return Measured(text[: found.start()].strip(), words, parse_unit(words)) if words else Measured(text[: found.start()])
    for pattern in (_WORDS, _QUOTIENT):  # a single letter is a unit only in a quotient: km/h
        found = pattern.search(text)
        if found and found.start() > 0 and not text[: found.start() + 1].rstrip().endswith("\\"):
            known = parse_unit(found[1])
            if known is not None:
                return Measured(text[: found.start(1)].strip(), found[1].strip(), known)
    return Measured(text)
