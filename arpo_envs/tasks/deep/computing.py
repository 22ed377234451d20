"""What is asked of numbers that were read: exact results, with the Python that computes them."""

from collections.abc import Sequence
from fractions import Fraction
from math import prod

import numpy as np

from ..computations import Step, between

_CLOSE = Fraction(1, 1000)
_LEAST = 10
"""Smaller results would be too frequent, and from 0 nothing follows."""
_PLURAL = {"population": "populations", "area": "areas, in square kilometres,"}


def rounded(exact: Fraction, decimals: int) -> str | None:
    """Returns a positive number as Python shows it once rounded; None so close to a tie that the way of rounding matters.

    >>> rounded(Fraction(10, 3), 2), rounded(Fraction(5, 2), 3), rounded(Fraction(1, 8), 2)
    ('3.33', '2.5', None)
    """
    scaled = exact * 10**decimals
    whole = round(scaled)
    return None if Fraction(1, 2) - abs(scaled - whole) < _CLOSE else str(whole / 10**decimals)


def combined(rng: np.random.Generator, names: Sequence[str], values: Sequence[int]) -> Step:
    """Draws a computation that needs all of several numbers and has an integer result.

    Args:
        rng: the only source of randomness.
        names: of the numbers, two or more.
        values: the numbers.
    """
    *most, last = names
    listed = f"{', '.join(most)} and {last}"
    while True:
        m = between(rng, 1_000, 99_999)
        if between(rng, 0, 1):
            what, code, value = f"product of {listed}", " * ".join(names), prod(values) % m
        else:
            squares = " + ".join(f"{name} ** 2" for name in names)
            what, code, value = f"sum of the squares of {listed}", f"({squares})", sum(n**2 for n in values) % m
        if value >= _LEAST:
            return Step(f"the remainder when the {what} is divided by {m}", f"{code} % {m}", value, {"m": m})


def quotient(names: tuple[str, str], values: tuple[int, int]) -> Step | None:
    """Returns the larger of two numbers divided by the smaller one, rounded; None where rounding is ambiguous."""
    (small, below), (large, above) = sorted(zip(values, names, strict=True))
    shown = rounded(Fraction(large, small), 3)
    if shown is None:
        return None
    return Step(f"{above} divided by {below}, rounded to three decimals", f"round({above} / {below}, 3)", shown, {})


def aggregate(rng: np.random.Generator, relation: str, things: str, names: Sequence[str], values: Sequence[int]) -> Step | None:
    """Draws a number about a list of numbers `v`; None where rounding is ambiguous.

    Args:
        rng: the only source of randomness.
        relation: "population" or "area".
        things: what has them, such as "cities".
        names: of the things.
        values: the numbers.
    """
    these = f"of these {things}: {'; '.join(names)}"
    plural = _PLURAL[relation]
    kind = between(rng, 0, 3)
    if kind == 0:
        return Step(f"the sum of the {plural} {these}", "sum(v)", sum(values), {})
    if kind == 1:
        m = between(rng, 1_000, 99_999)
        phrase = f"the remainder, when divided by {m}, of the sum of the squares of the {plural} {these}"
        return Step(phrase, f"sum(n ** 2 for n in v) % {m}", sum(n**2 for n in values) % m, {"m": m})
    if kind == 2:
        shown = rounded(Fraction(sum(values), len(values)), 2)
        phrase = f"the mean, rounded to two decimals, of the {plural} {these}"
        return None if shown is None else Step(phrase, "round(sum(v) / len(v), 2)", shown, {})
    weighted = sum(place * value for place, value in enumerate(values, 1))
    phrase = f"the sum, each number multiplied by its place in the list (1 for the first), of the {plural} {these}"
    return Step(phrase, "sum(i * n for i, n in enumerate(v, 1))", weighted, {})
