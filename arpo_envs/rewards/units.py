"""Units of measurement: enough of them to see that 12 km is 12000 m, and that 12 km is not 12 kg."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

Dimensions = frozenset[tuple[str, int]]
"""Base dimensions with their powers; empty for a pure number."""


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


_PREFIXES = {
    **{"n": "1e-9", "u": "1e-6", "µ": "1e-6", "μ": "1e-6", "m": "1e-3", "c": "1e-2", "d": "1e-1", "h": "1e2"},
    **{"k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12"},
}
_LONG_PREFIXES = {
    **{"nano": "1e-9", "micro": "1e-6", "milli": "1e-3", "centi": "1e-2", "deci": "1e-1", "hecto": "1e2"},
    **{"kilo": "1e3", "mega": "1e6", "giga": "1e9", "tera": "1e12"},
}
_PREFIXED = {  # symbol: (names, factor, dimensions)
    "m": ("meter metre", "1", "length"),
    "g": ("gram gramme", "1", "mass"),
    "s": ("second", "1", "time"),
    "L": ("liter litre", "0.001", "length^3"),
    "l": ("", "0.001", "length^3"),
    "A": ("ampere amp", "1", "current"),
    "K": ("kelvin", "1", "temperature"),
    "mol": ("mole", "1", "amount"),
    "Hz": ("hertz", "1", "time^-1"),
    "N": ("newton", "1000", "mass length time^-2"),
    "Pa": ("pascal", "1000", "mass length^-1 time^-2"),
    "J": ("joule", "1000", "mass length^2 time^-2"),
    "W": ("watt", "1000", "mass length^2 time^-3"),
    "Wh": ("watt-hour", "3600000", "mass length^2 time^-2"),
    "eV": ("electronvolt", "1.602176634e-16", "mass length^2 time^-2"),
    "C": ("coulomb", "1", "current time"),
    "V": ("volt", "1000", "mass length^2 time^-3 current^-1"),
    "cal": ("calorie", "4184", "mass length^2 time^-2"),
    "B": ("byte", "8", "data"),
    "bit": ("", "1", "data"),
    "bar": ("", "100000000", "mass length^-1 time^-2"),
}
_PLAIN = {  # names: (factor, dimensions)
    "inch in": ("0.0254", "length"),
    "foot feet ft": ("0.3048", "length"),
    "yard yd": ("0.9144", "length"),
    "mile mi": ("1609.344", "length"),
    "tonne": ("1000000", "mass"),
    "ounce oz": ("28.349523125", "mass"),
    "pound lb": ("453.59237", "mass"),
    "sec": ("1", "time"),
    "minute min": ("60", "time"),
    "hour hr h": ("3600", "time"),
    "day": ("86400", "time"),
    "week": ("604800", "time"),
    "month": ("1", "months"),
    "year yr": ("12", "months"),
    "hectare ha": ("10000", "length^2"),
    "acre": ("4046.8564224", "length^2"),
    "gallon gal": ("0.003785411784", "length^3"),
    "quart qt": ("0.000946352946", "length^3"),
    "pint pt": ("0.000473176473", "length^3"),
    "cc": ("0.000001", "length^3"),
    "mph": ("0.44704", "length time^-1"),
    "kph kmh": ("5/18", "length time^-1"),
    "knot": ("463/900", "length time^-1"),
    "atm": ("101325000", "mass length^-1 time^-2"),
    "dollar usd $": ("1", "dollars"),
    "cent ¢": ("1/100", "dollars"),
    "euro eur €": ("1", "euros"),
    "pound-sterling gbp £": ("1", "pounds"),
    "yen jpy ¥": ("1", "yen"),
    "rupee inr ₹": ("1", "rupees"),
    "% percent percentage pct": ("1/100", ""),
    "degree deg °": ("1", "angle"),
}
_TEMPERATURES = {
    "°c": ("1", "273.15"),
    "celsius": ("1", "273.15"),
    "°f": ("5/9", "45967/180"),
    "fahrenheit": ("5/9", "45967/180"),
}
_POWER = re.compile(r"^(.*?)\^?\{?([+-]?\d)\}?$")
_TEXTUAL = re.compile(r"\\(?:text|mathrm|mbox|operatorname|rm)\b|[{}]|\\[ ,;!]?")


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Unit]:
    """Returns all names of all units; symbols keep their case, words are in lower case."""
    table: dict[str, Unit] = {}
    for symbol, (names, factor, dimensions) in _PREFIXED.items():
        for prefixes, spelt in ((_PREFIXES, [symbol]), (_LONG_PREFIXES, names.split())):
            for name in spelt:
                table[name] = Unit(Fraction(factor), _dimensions(dimensions))
                for prefix, scale in prefixes.items():
                    table.setdefault(prefix + name, Unit(Fraction(factor) * Fraction(scale), _dimensions(dimensions)))
    for joined, (factor, dimensions) in _PLAIN.items():
        table.update(dict.fromkeys(joined.split(), Unit(Fraction(factor), _dimensions(dimensions))))
    for name, (factor, offset) in _TEMPERATURES.items():
        table[name] = Unit(Fraction(factor), _dimensions("temperature"), Fraction(offset))
    return table


def _dimensions(text: str) -> Dimensions:
    parts = (part.partition("^") for part in text.split())
    return frozenset((name, int(power or 1)) for name, _, power in parts)


def parse_unit(text: str) -> Unit | None:
    """Returns the unit a text names, None for one that is not known.

    >>> parse_unit("km/h") == parse_unit("kilometers per hour"), parse_unit("cm^2").factor, parse_unit("eggs")
    (True, Fraction(1, 10000), None)
    """
    text = _TEXTUAL.sub("", text.replace(r"\%", "%").replace(r"\$", "$").replace(r"^\circ", "°").replace(r"^{\circ}", "°"))
    text = text.replace("°C", "celsius").replace("° C", "celsius").replace("°F", "fahrenheit").replace("° F", "fahrenheit")
    text = text.replace("²", "^2").replace("³", "^3").replace("·", " ").replace("*", " ").replace(r"\cdot", " ")
    words = re.sub(r"\bper\b|/", " / ", text).strip().rstrip(".").split()
    if not 0 < len(words) <= 12:
        return None
    return _product(tuple(words))


@lru_cache(maxsize=1024)
def _product(words: tuple[str, ...]) -> Unit | None:
    factor, offset, powers = Fraction(1), Fraction(0), Counter[str]()
    sign, ahead, count = 1, 1, 0  # `ahead`: the power that "square" or "cubic" gives to the next word
    for word in words:
        if word == "/":
            sign = -1
        elif (found := {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3, "cu.": 3}.get(word.lower())) is not None:
            ahead = found
        elif word.lower() in {"squared", "cubed"}:
            return None if count == 0 else _product((*words[:-2], f"{words[-2]}^{2 if word == 'squared' else 3}"))
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
    if word not in _table() and (found := _POWER.match(word)) and found[1]:
        word, power = found[1], int(found[2])
    if not -6 <= power <= 6 or power == 0:
        return None, 1
    lower = word.lower()
    for name in (word, lower, lower.removesuffix("s"), lower.removesuffix("es")):
        if name in _table() and (name == word or len(name) > 1):
            return _table()[name], power
    return None, power
