"""Units of measurement, by `pint`, and currencies: that 12 km is 12000 m, and that 12 km is not 12 kg.

`pint` is asked about single words only: its own grammar reads `5 is` and `pi` where a model wrote no unit, and evaluates what
it reads. Months and years are its own, a twelfth of 365.25 days and that.
"""

import re
import threading
import unicodedata
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from typing import Any

from .counting import NUMERALS

Dimensions = frozenset[tuple[str, int]]
"""Base units with their powers; empty for a pure number."""


@dataclass(frozen=True)
class Unit:
    """One unit, as a multiple of the base units of its dimensions.

    Args:
        factor: one of this unit in base units (metre, gram, second, …).
        dimensions: of what it measures.
        offset: where its zero lies, in base units; only temperatures have one.
    """

    factor: Fraction
    dimensions: Dimensions
    offset: Fraction = Fraction(0)


_PREFIXES = frozenset({"", "pico", "nano", "micro", "milli", "centi", "deci", "hecto", "kilo", "mega", "giga", "tera"})
_BINARY = frozenset({"kibi", "mebi", "gibi", "tebi"})
_PURE = frozenset({"percent", "permille", "ppm"})
"""The pure numbers that stand behind a number as a unit does."""
_NO_UNITS = frozenset({"a", "am", "as", "at", "b", "d", "dB", "k", "u", "S", "R"})
"""Short words that mean something else far more often than years, technical atmospheres or barns."""
_DEFINITIONS = (
    *("us_dollar = [us_dollar] = _ = dollar = usd", "us_cent = us_dollar / 100 = _ = cent", "euro = [euro] = _ = eur"),
    *("pound_sterling = [pound_sterling] = _ = gbp", "yen = [yen] = _ = jpy", "rupee = [rupee] = _ = inr = rupees"),
    *(
        "@alias percent = percentage = pct",
        "@alias kilometer_per_hour = kmh",
        "@alias hour = hr = hrs",
        "@alias year = yr = yrs",
    ),
)
_SIGNS = {
    **{"$": "us_dollar", "€": "euro", "£": "pound_sterling", "¥": "yen", "₹": "rupee", "¢": "us_cent"},
    **{"%": "percent", "‰": "permille", "°": "degree", "°c": "degC", "°f": "degF", "℃": "degC", "℉": "degF"},
    **{"us$": "us_dollar", "fahrenheit": "degF", "celsius": "degC", "Ω": "ohm"},
}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_AFTER = {"squared": 2, "cubed": 3}
_POWER = re.compile(r"^(.*?)\^?\{?([+-]?\d)\}?$")
_WORD = re.compile(r"^[^\W\d_][^\W\d]{0,29}$")
_TEXTUAL = re.compile(r"\\(?:text|mathrm|mbox|operatorname|rm)\b|[{}]|\\[ ,;!]?")
_LOCK = threading.Lock()


@lru_cache(maxsize=1)
def _registry() -> Any:
    """Returns pint's registry with exact fractions; made when the first unit is read, in a third of a second."""
    import pint

    registry = pint.UnitRegistry(non_int_type=Fraction, cache_folder=None, on_redefinition="ignore")
    for line in _DEFINITIONS:
        registry.define(line)
    return registry


@lru_cache(maxsize=1)
def _constants() -> frozenset[str]:
    """Returns the names that pint takes for units but that are constants of nature, or numbers such as pi."""
    text = resources.files("pint").joinpath("constants_en.txt").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^(\w+)\s*=", text, re.MULTILINE)) - {"standard_atmosphere"}


def parse_unit(text: str) -> Unit | None:
    """Returns the unit a text names, None for one that is not known.

    >>> parse_unit("km/h") == parse_unit("kilometers per hour"), parse_unit("cm^2").factor, parse_unit("eggs")
    (True, Fraction(1, 10000), None)
    >>> [parse_unit(text) for text in ("dozen", "is", "pi", "x", "at")]
    [None, None, None, None, None]
    """
    text = _TEXTUAL.sub("", text.replace(r"\%", "%").replace(r"\$", "$").replace(r"^\circ", "°").replace(r"^{\circ}", "°"))
    text = text.replace("° ", "°").replace("²", "^2").replace("³", "^3").replace("·", " ").replace("*", " ")
    words = re.sub(r"\bper\b|/", " / ", text.replace(r"\cdot", " ")).strip().rstrip(".").split()
    return _product(tuple(words)) if 0 < len(words) <= 12 else None


@lru_cache(maxsize=1024)
def _product(words: tuple[str, ...]) -> Unit | None:
    factor, offset, powers = Fraction(1), Fraction(0), Counter[str]()
    sign, ahead, count = 1, 1, 0  # `ahead`: the power that "square" or "cubic" gives to the next word
    for word in words:
        if word == "/":
            sign = -1
        elif (found := _POWERS.get(word.lower().rstrip("."))) is not None:
            ahead = found
        elif word.lower() in _AFTER:
            return None if count == 0 else _product((*words[:-2], f"{words[-2]}^{_AFTER[word.lower()]}"))
        else:
            unit, power = _one(word)
            if unit is None:
                return None
            exponent = sign * ahead * power
            factor *= unit.factor**exponent
            offset, count, ahead = unit.offset, count + 1, 1
            for name, own in unit.dimensions:
                powers[name] += own * exponent
    if count == 0:
        return None
    return Unit(factor, frozenset((n, p) for n, p in powers.items() if p), offset if count == 1 else Fraction(0))


def _one(word: str) -> tuple[Unit | None, int]:
    """Returns the unit and the power of one word such as "cm^2" or "Meters"."""
    power = 1
    if (found := _POWER.match(word)) and found[1]:
        word, power = found[1], int(found[2])
    if not -6 <= power <= 6 or power == 0:
        return None, 1
    names = (word, word.lower()) if len(word) > 1 else (word,)
    return next((unit for name in dict.fromkeys(names) if (unit := _named(name)) is not None), None), power


@lru_cache(maxsize=1024)
def _named(word: str) -> Unit | None:
    word = unicodedata.normalize("NFC", word)  # the ohm sign is an omega
    sign = _SIGNS.get(word) or _SIGNS.get(word.lower())
    if sign is None and (word in _NO_UNITS or word.lower().removesuffix("s") in NUMERALS or not _WORD.match(word)):
        return None
    with _LOCK:  # the registry fills tables of its own
        for prefix, name, _ in _registry().parse_unit_name(sign or word):
            if prefix in _PREFIXES | (_BINARY if name in {"byte", "bit"} else frozenset()) and name not in _constants():
                return _in_base_units(prefix, name)
    return None


def _in_base_units(prefix: str, name: str) -> Unit | None:
    from pint.util import to_units_container

    registry = _registry()
    unit = registry.Unit(prefix + name)
    factor, base = registry.get_root_units(unit)
    powers = {dimension: int(power) for dimension, power in to_units_container(base).items()}
    if not powers and name not in _PURE:
        return None
    return Unit(Fraction(factor), frozenset(powers.items()), Fraction(registry.Quantity(0, unit).to_root_units().magnitude))
