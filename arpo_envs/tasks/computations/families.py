"""What a family of computational questions is, and the steps that may follow its first value.

A question defines a value x (the core, which belongs to the family) and continues from it in one to three
steps. Each stage comes with its reference value, in exact arithmetic, and with the code of one cell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from typing import Any

import numpy as np

from ...errors import ConfigError

Value = int | Fraction | str
"""Exact values; a string is a date, a word, or the like."""

Number = Value | tuple[int, ...]
"""A parameter of a question."""


@dataclass(frozen=True)
class Step:
    """What is asked about the previous value.

    Args:
        phrase: what is asked, including the previous value's name.
        code: an expression for it, which uses that name from the namespace.
        value: the reference value.
        numbers: the numbers in the phrase.
    """

    phrase: str
    code: str
    value: Value
    numbers: Mapping[str, Value]


@dataclass(frozen=True)
class Core:
    """How a question begins.

    Args:
        phrase: what x is, as in "Let x be …"; it contains all of `numbers`.
        code: statements that bind x, and anything else a later cell may need.
        value: the reference value of x.
        numbers: the parameters, by name.
        finish: how the question ends, if the steps for integers do not fit.
        before: sentences in front, such as given data.
    """

    phrase: str
    code: str
    value: Value
    numbers: Mapping[str, Number]
    finish: Step | None = None
    before: str = ""


Family = Callable[[np.random.Generator, int], Core]
"""Draws the beginning of a question of a difficulty, 1 to 5."""

SMALL = range(10, 1000)
"""Numbers that the embedded policy knows by name: all of difficulty 1 that are not constants."""


DIFFICULTIES = range(1, 6)


def difficulty_of(value: Any) -> int:
    """Returns a difficulty as Python's own integer, so that a question is the same whoever gave it.

    Raises:
        ConfigError: it is not a whole number between 1 and 5.

    >>> difficulty_of(np.int64(2))
    2
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value not in DIFFICULTIES:
        raise ConfigError(f"difficulty must be a whole number between 1 and 5, got {value!r}.")
    return int(value)


def between(rng: np.random.Generator, low: int, high: int) -> int:
    """Returns an integer, uniform over low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def size(rng: np.random.Generator, digits: int) -> int:
    """Returns an integer with that many decimal digits, uniformly; for numbers beyond 64 bits too."""
    first = str(between(rng, 1, 9))
    return int(first + "".join(str(between(rng, 0, 9)) for _ in range(digits - 1)))


def accept(draw: Callable[[], Core | None]) -> Core:
    """Draws until a core is acceptable; each family makes that quick."""
    while (core := draw()) is None:
        pass
    return core


# --- steps that follow an integer ---------------------------------------------------------------------


def _scaled(rng: np.random.Generator, name: str, value: int, most: int) -> Step:
    b, m = between(rng, 10, most), between(rng, max(100, most // 10), most)
    phrase = f"the remainder when {name} times {b} is divided by {m}"
    return Step(phrase, f"{name} * {b} % {m}", value * b % m, {"b": b, "m": m})


def _squared(rng: np.random.Generator, name: str, value: int, most: int) -> Step:
    b, m = between(rng, 10, most), between(rng, max(100, most // 10), most)
    phrase = f"the remainder when {name} squared plus {b} is divided by {m}"
    return Step(phrase, f"({name} * {name} + {b}) % {m}", (value * value + b) % m, {"b": b, "m": m})


def _exponent(rng: np.random.Generator, name: str, value: int, most: int) -> Step:
    b, m = between(rng, 10, most), between(rng, max(100, most // 10), most)
    phrase = f"the remainder when {b} to the power {name} is divided by {m}"
    return Step(phrase, f"pow({b}, {name}, {m})", pow(b, value, m), {"b": b, "m": m})


def _digits(rng: np.random.Generator, name: str, value: int, most: int) -> Step:
    b = between(rng, 50, 50 + min(most, 400))
    phrase = f"the sum of the decimal digits of {name} plus 2 to the power {b}"
    shown = sum(int(digit) for digit in str(value + 2**b))
    return Step(phrase, f"sum(int(d) for d in str({name} + 2 ** {b}))", shown, {"b": b})


def follow(rng: np.random.Generator, difficulty: int, name: str, value: int, *, last: bool) -> Step:
    """Draws a step that continues from an integer.

    Args:
        rng: the only source of randomness.
        difficulty: 1 to 5; at 1 the result lies in `SMALL`.
        name: the integer's name.
        value: the integer's value, not negative.
        last: whether it ends the question: then a few values must not answer many questions.
    """
    most = {1: 999, 2: 9_999, 3: 99_999, 4: 9_999_999, 5: 999_999_999}[difficulty]
    kinds = [_scaled, _squared]
    if difficulty > 1:
        kinds.append(_exponent)
    if difficulty > 2 and not last:
        kinds.append(_digits)
    kind = kinds[between(rng, 0, len(kinds) - 1)]
    while True:
        step = kind(rng, name, value, most)
        assert isinstance(step.value, int)
        if step.value >= 10:
            return step
