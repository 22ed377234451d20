r"""Units of measurement, by `pint`: enough to see that 12 km is 12000 m, and that 12 km is not 12 kg.

A model wrote the text, so it is taken apart here, and pint is asked about one word at a time: its own parser evaluates what
it reads, finds units in `as`, `pi` and `exam`, and takes every letter for one. So a short symbol must be listed as a unit.
"""

import re
import threading
import unicodedata
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pint

Dimensions = frozenset[tuple[str, int]]
"""Base dimensions with their powers; empty for a pure number."""


@dataclass(frozen=True)
class Unit:
    """One unit, as a multiple of the base units of its dimensions.

    Args:
        factor: one of this unit in base units (metre, gram, second, …).
        dimensions: those of what it measures.
        offset: where its zero lies, in base units; only temperatures have one.
    """

    factor: Fraction
    dimensions: Dimensions
    offset: Fraction = Fraction(0)


MOST_WORDS = 12
"""A longer text does not name a unit."""
CURRENCY_SIGNS = "$¢£¤¥\u20a0-\u20cf"
"""For a character class of a regular expression."""
CURRENCY_CODES = (
    *("USD", "EUR", "GBP", "JPY", "INR", "CNY", "KRW", "CHF", "CAD", "AUD", "NZD", "BRL", "MXN", "RUB"),
    *("SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "TRY", "ZAR", "SGD", "HKD", "ILS", "THB", "VND", "UAH"),
)
_NAMED = {"USD": "dollar", "EUR": "euro", "GBP": "pound_sterling", "JPY": "yen", "INR": "rupee", "CNY": "yuan"}
_SIGNS = {"$": "dollar", "¢": "cent", "£": "pound_sterling", "€": "euro", "¥": "yen", "₹": "rupee", "₨": "rupee"}
_SPELT = {"元": "yuan", "円": "yen", "Rs": "rupee", "usd": "dollar", "eur": "euro", "gbp": "pound_sterling"}
_MONEY = "[money_"
_DEFINITIONS = (  # what pint lacks, or takes for pure numbers
    "radian = [angle] = rad",
    "degree = π / 180 * radian = deg = ° = arcdeg",
    "bit = [data]",
    "unit = [unit]",  # the unit of a drawing: 12 square units
    "KB = 1000 * byte",
    "percent = 1 / 100 = % = percentage = pct",
    "decade = 10 * year",
    "survey_foot = foot = sft",  # given up in 2022; an acre is 43560 square feet
    "kmh = kilometer / hour = kmph",
    "kwh = kilowatt * hour",
    "kw = kilowatt",
    "@alias gram = gm",
    "@alias square_foot = sqft",
    *(f"{_NAMED.get(code, code)} = {_MONEY}{code}] = {code}" for code in CURRENCY_CODES),
    "cent = dollar / 100",
    "eurocent = euro / 100",
)
_PREFIXED = (
    *("m", "g", "s", "L", "l", "A", "K", "N", "J", "W", "V", "C", "F", "T", "H", "S", "Ω", "B"),
    *("Pa", "Hz", "Wh", "eV", "mol", "cal", "bit", "bps"),
)
_SYMBOL = re.compile(
    rf"(?:[pnuµμmcdhkMGT]|[KMGT]i)?(?:{'|'.join(_PREFIXED)})|°|Å|%|‰|h|hr|hrs|min|sec|day|yr|yrs|ha|in|ft|yd|mi|oz|lb|lbs|gal|qt|pt"
    rf"|cc|tsp|cup|ton|gm|bar|amp|ohm|erg|lux|atm|psi|hp|mph|kph|kmh|rpm|kwh|kw|KB|BTU|ppm|pct|deg|rad|yen|{'|'.join(CURRENCY_CODES)}"
)
_PLURALS = {symbol + "s": symbol for symbol in ("kg", "km", "cm", "mm", "ml", "gm")}  # pint adds no s to a single letter
_SHORTEST_NAME = 4
"""Letters; anything shorter must be a listed symbol, and what follows a long prefix may be one letter shorter."""
_OTHERWISE = frozenset(  # words that pint knows as units, and that mean something else after a number
    {"quarter", "fifth", "thou", "mil", "quadrillion_Btu", "gamma", "lambda", "milliarcsecond"}  # the last: "mass"
    | {"stefan_boltzmann_constant", "dirac_constant", "standard_gravity"}  # sigma, hbar, gravity
)
_RATIOS = frozenset({"percent", "permille", "ppm"})
_EITHER = {
    **{"C": "celsius", "F": "fahrenheit", "¥": "yuan"},
    **{"pound": "pound_sterling", "pounds": "pound_sterling", "cent": "eurocent", "cents": "eurocent"},
}
_TYPEFACE = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it|sf)|mbox|operatorname|rm)(?![a-zA-Z])(?:\s*\{([^{}]*)\})?"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_TEMPERATURE = re.compile(r"(?:°|\bdeg(?:ree)?s?)\s*(?:(c|celsius|centigrade)|(?:f|fahrenheit))\b", re.IGNORECASE)
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(r"^([^\W\d_]+)(?:\^([+-]?\d)|(\d))$")
_AHEAD = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3, "cu.": 3}
_BEHIND = {"squared": 2, "cubed": 3}
_TIMES = "·"
_LOCK = threading.Lock()
_HYPHEN = re.compile(r"(?:(?<=[^\W\d_]{2})|(?<=[A-Z]))-(?=[^\W\d_])")
"""That of light-years and N-m; m-h is a difference."""


def parse_unit(text: str) -> Unit | None:
    """Returns the unit that a text names, or None if it is unknown.

    >>> parse_unit("km/h") == parse_unit("kilometers per hour"), parse_unit("cm^2").factor, parse_unit("eggs")
    (True, Fraction(1, 10000), None)
    """
    words = _words(text)
    return _product(words) if len(words) <= MOST_WORDS else None


def leading_unit(text: str) -> tuple[Unit | None, str]:
    """Returns the unit that the first words of a text name, as many of them as possible, and the text after it.

    >>> leading_unit("feet tall") == (parse_unit("ft"), "tall"), leading_unit("tall")
    (True, (None, 'tall'))
    """
    words = _words(text)
    for end in range(len(words) if len(words) <= MOST_WORDS else 0, 0, -1):
        if (unit := _product(words[:end])) is not None:
            return unit, " ".join(words[end:])
    return None, without_latex(text)


def reading(text: str, beside: Unit) -> Unit | None:
    """Returns the unit a text names next to another: C may be coulomb or Celsius, a pound weight or money.

    >>> celsius = parse_unit("°C")
    >>> reading("C", celsius) == celsius, reading("C", parse_unit("mC")) == parse_unit("coulomb")
    (True, True)
    """
    unit, other = parse_unit(text), _EITHER.get(text.strip())
    if unit is not None and unit.dimensions != beside.dimensions and other is not None:
        return _one(other)
    return unit


def without_latex(text: str) -> str:
    r"""Returns words without the LaTeX they are set in.

    >>> without_latex(r"\text{ km/h}"), without_latex(r"\frac{\text{m}}{\text{s}^2}"), without_latex(r"\%")
    ('km/h', 'm / s^2', '%')
    """
    text = text.replace(r"\%", "%").replace(r"\$", "$").replace("US$", "$").replace(r"\cdot", "·")
    text = re.sub(r"\$?\^\s*\{?\s*\\circ\s*\}?\$?|\\degree(?![a-z])", "°", text)
    text = _FRACTION.sub(r"\1 / \2", _TYPEFACE.sub(r"\1", text))
    return re.sub(r"[{}]|\\(?![a-zA-Z])[ ,;:!]?|~", "", text).strip()


def _words(text: str) -> tuple[str, ...]:
    """Returns the words of a text, "per" for each slash; powers stay with their words."""
    text = _TEMPERATURE.sub(
        lambda found: " celsius " if found[1] else " fahrenheit ", without_latex(text).replace("℃", "°C").replace("℉", "°F")
    )
    text = _SUPERSCRIPT.sub(lambda found: "^" + found[0].translate(_SUPERSCRIPTS), text.replace("**", "^"))
    if text.count("(") != text.count(")"):
        return ()
    text = _HYPHEN.sub(" ", text.replace("(", " ").replace(")", " ")).replace("/", " per ")
    return tuple(re.sub("[·⋅*]", f" {_TIMES} ", text).rstrip(". ").split())


@lru_cache(maxsize=4096)
def _product(words: tuple[str, ...]) -> Unit | None:
    """Returns the product of the units that all words name, or None."""
    found: list[tuple[Unit, int]] = []
    sign, ahead = 1, 1  # `ahead`: the power that "square" or "cubic" gives to the next word
    at, dangling = 0, True
    while at < len(words):
        word = words[at]
        both = _joined(words[at : at + 2])
        if both is None and word.lower() in ("per", "a", "an") and (found or word.lower() == "per"):
            sign, dangling = -1, True
        elif word == _TIMES and not dangling:
            dangling = True
        elif both is None and word.lower() in _AHEAD:
            ahead, dangling = _AHEAD[word.lower()], True
        elif word.lower() in _BEHIND:
            if dangling or not found:
                return None
            found[-1] = found[-1][0], found[-1][1] * _BEHIND[word.lower()]
        else:
            unit, power = (both, 1) if both is not None else _powered(word)
            if unit is None:
                return None
            found.append((unit, sign * ahead * power))
            ahead, dangling = 1, False
        at += 1 if both is None else 2
    return None if dangling else _multiplied(found)


def _multiplied(units: list[tuple[Unit, int]]) -> Unit | None:
    factor, powers = Fraction(1), Counter[str]()
    for unit, exponent in units:
        factor *= unit.factor**exponent
        for name, own in unit.dimensions:
            powers[name] += own * exponent
    dimensions = frozenset((name, power) for name, power in powers.items() if power)
    if not dimensions and (len(units) > 1 or units[0][1] != 1):
        return None  # "% %", "m/m"
    multiples = [name for name, power in dimensions if power > 0]
    if len(multiples) > 1 and any(name.startswith(_MONEY) for name in multiples):
        return None  # "5 m dollars" are millions
    return Unit(factor, dimensions, units[0][0].offset if len(units) == 1 else Fraction(0))


def _joined(pair: tuple[str, ...]) -> Unit | None:
    """Returns the unit that two words name together, such as light years and pounds sterling."""
    if len(pair) < 2 or not all(re.fullmatch(r"[a-zA-Z]{2,20}", word) for word in pair):
        return None
    first, second = (word.lower() for word in pair)
    for name in (f"{first}_{second}", f"{first.removesuffix('s')}_{second}"):
        if (unit := _one(name)) is not None:
            return unit
    return None


def _powered(word: str) -> tuple[Unit | None, int]:
    """Returns the unit and the power of one word such as "cm^2" or "Meters"."""
    power = 1
    if found := _POWER.match(word):
        word, power = found[1], int(found[2] or found[3])
    if not 0 < abs(power) <= 6:
        return None, 1
    return _one(word) or (_one(word.lower()) if len(word) > 1 else None), power


@lru_cache(maxsize=4096)
def _one(word: str) -> Unit | None:
    """Returns the unit that is written like this, or None."""
    word = unicodedata.normalize("NFC", word)  # the ohm sign is an omega
    word = _SIGNS.get(word, _SPELT.get(word, _PLURALS.get(word, word)))
    if len(word) == 1 and unicodedata.category(word) == "Sc":
        return Unit(Fraction(1), frozenset({(f"{_MONEY}{word}]", 1)}))
    is_symbol = _SYMBOL.fullmatch(word) is not None
    if not is_symbol and not re.fullmatch(rf"[^\W\d]{{{_SHORTEST_NAME},40}}", word):
        return None
    with _LOCK:  # the registry fills its own tables
        for prefix, name, _ in _registry().parse_unit_name(word):
            long = word.startswith(prefix) and len(word) - len(prefix) >= _SHORTEST_NAME - bool(prefix)
            if (is_symbol or long) and name not in _OTHERWISE:
                return _as_unit(prefix + name)
    return None


def _as_unit(name: str) -> Unit | None:
    """Returns a unit by its full name in pint's registry; None for logarithms, roots and constants without dimension."""
    registry = _registry()
    try:
        zero, one = (registry.Quantity(Fraction(n), registry.UnitsContainer({name: 1})).to_root_units() for n in (0, 1))
    except (TypeError, ValueError):  # a logarithm has no exact value; some units have no multiples
        return None
    powers = {dimension: Fraction(str(power)) for dimension, power in one.dimensionality.items()}
    if any(power.denominator != 1 for power in powers.values()) or (not powers and name not in _RATIOS):
        return None
    dimensions = frozenset((dimension, int(power)) for dimension, power in powers.items())
    start = Fraction(str(zero.magnitude))
    return Unit(Fraction(str(one.magnitude)) - start, dimensions, start)


@lru_cache(maxsize=1)
def _registry() -> "pint.UnitRegistry":
    """Makes the registry, in exact fractions; 0.3 seconds, most of them the import."""
    import pint

    registry = pint.UnitRegistry(None, non_int_type=Fraction, on_redefinition="ignore")
    registry.load_definitions(str(files("pint") / "default_en.txt"))
    registry.load_definitions(_DEFINITIONS)
    return registry
