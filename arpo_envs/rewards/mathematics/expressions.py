"""Numbers and expressions as sympy reads them: reading LaTeX, and whether two expressions are equal.

Numbers are compared by stricter rules than `math-verify`'s own, which rounds to six decimal places (1e-7 equals 0), and
the parser is a grammar (ANTLR); no text is ever evaluated as Python.
"""

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import sympy  # type: ignore[import-untyped]
from latex2sympy2_extended import NormalizationConfig, latex2sympy  # type: ignore[import-untyped]
from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
from math_verify import verify  # type: ignore[import-untyped]

from .latex import side_by_side

_ROUNDED = sympy.Rational(2, 10**6)
"""Relative; a decimal fraction equals a number without a finite decimal form if they differ by no more."""
MAX_POWER = 20_000
"""The largest exponent of a number, and the largest number whose factorial is taken."""
MAX_DEGREE = 1_000
"""The largest exponent of anything else."""
MAX_MATRIX_POWER = 20
_HUGE = 1e300
MAX_UNKNOWNS = 3
"""Expressions in more unknowns than this are not compared sign by sign."""
_PIECEWISE = (
    sympy.Abs,
    sympy.floor,
    sympy.ceiling,
    sympy.sign,
    sympy.Max,
    sympy.Min,
    sympy.Mod,
    sympy.Piecewise,
    sympy.factorial,
)
"""Functions that may follow different formulas at different points."""
_SPELLING = NormalizationConfig(units=False, malformed_operators=True, nits=False, boxed="none", equations=False)
_READING = ConversionConfig(lowercase_symbols=False)  # by default A - a is 0
_LOST = re.compile(r"'|\\(?:gcd|lcm)\s*\([^()]*[a-zA-Z]|\d\s*(?:\^\s*\{[^{}]*\}\s*)?_")
"""What the grammar ignores: a prime (f' is f), the divisors of unknowns (always 1), and a number's index (its base)."""


@lru_cache(maxsize=256)
def parsed(text: str) -> Any:
    """Returns a text as parsed by the library's grammar, or None if it cannot be read.

    Args:
        text: LaTeX in the spelling of `to_latex`.
    """
    if not text or side_by_side(text) or _LOST.search(text):  # the grammar joins numbers side by side, or adds them
        return None
    try:
        found = latex2sympy(text, is_real=True, normalization_config=_SPELLING, conversion_config=_READING)
        return _tidy(found) if isinstance(found, sympy.Basic | sympy.MatrixBase) and not _too_large(found) else None
    except (MemoryError, RecursionError):
        return None
    except Exception:  # noqa: BLE001  # the grammar raises bare exceptions
        return None


def _too_large(expression: Any) -> bool:
    """Says whether a power or a factorial would take too long to compute, without computing it."""
    for node in sympy.postorder_traversal(expression):  # inner powers first, so that each exponent can be evaluated
        if isinstance(node, sympy.Pow) and node.exp.is_number:
            limit = MAX_POWER if node.base.is_number else MAX_DEGREE
            if not abs(complex(node.exp.evalf(15))) <= limit:
                return True
        elif isinstance(node, sympy.factorial | sympy.binomial | sympy.gamma) and not _are_small(node.args):
            return True
    return False


def _are_small(arguments: Any) -> bool:
    return all(abs(complex(argument.evalf(15))) <= MAX_POWER for argument in arguments if argument.is_number)


def _tidy(expression: Any) -> Any:
    """Makes i the imaginary unit, and γ a plain symbol: an answer rarely means Euler's constant."""
    return expression.xreplace({sympy.Symbol("i", real=True): sympy.I, sympy.EulerGamma: sympy.Symbol("gamma", real=True)})


def exact(expression: Any) -> tuple[Any, bool]:
    """Returns an expression with its decimal fractions made exact, and whether it had any."""
    floats = expression.atoms(sympy.Float) if hasattr(expression, "atoms") else set()
    return expression.xreplace({f: sympy.Rational(str(f)) for f in floats}), bool(floats)


def equal_expressions(left: Any, right: Any) -> bool:
    """Says whether two numbers, expressions or matrices are equal; relations and sets are not."""
    (left, rounded), (right, also_rounded) = exact(left), exact(right)
    if any(x.has(sympy.nan, sympy.zoo) for x in (left, right)):
        return False
    if is_matrix(left) or is_matrix(right):
        return _equal_matrices(left, right)
    if getattr(left, "is_number", False) and getattr(right, "is_number", False):
        return _equal_numbers(left.doit(), right.doit(), rounded, also_rounded)
    if left == right:
        return True
    if _differ_somewhere(left, right):
        return False
    return bool(verify(right, left, timeout_seconds=None)) or _equal_where_real(left, right)


def is_matrix(value: Any) -> bool:
    """Says whether a value is a matrix, a product or sum of matrices, or a small power of one."""
    if isinstance(value, sympy.Pow):
        return isinstance(value.base, sympy.MatrixBase) and value.exp.is_Integer and abs(value.exp) <= MAX_MATRIX_POWER
    return isinstance(value, sympy.MatrixBase | sympy.MatrixExpr)


def _equal_matrices(left: Any, right: Any) -> bool:
    one, other = (side.base**side.exp if isinstance(side, sympy.Pow) else side.doit() for side in (left, right))
    if not (isinstance(one, sympy.MatrixBase) and isinstance(other, sympy.MatrixBase)) or one.shape != other.shape:
        return False
    return all(equal_expressions(a, b) for a, b in zip(one, other, strict=True))


def _differ_somewhere(left: Any, right: Any) -> bool:
    """Says whether two expressions have clearly different values at a point: a quick way to see that they are not equal."""
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    point = {symbol: sympy.Rational(137 + 29 * i, 100 + 3 * i) for i, symbol in enumerate(symbols)}
    one, other = _value_at(left, point), _value_at(right, point)
    return one is not None and other is not None and abs(one - other) > 1e-6 * max(abs(one), abs(other))


def _value_at(expression: Any, point: dict[Any, Any]) -> complex | None:
    """Returns the value of an expression; None if it has none (a matrix, an undefined function) or a huge one."""
    try:
        value = complex(expression.subs(point).evalf(15))
        return value if abs(value) < _HUGE else None
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return None


def _equal_where_real(left: Any, right: Any) -> bool:
    r"""Says whether two expressions are the same real function: real at the same points, and equal there.

    Whether \sqrt{1/n} is 1/\sqrt n cannot be said for all complex numbers, nor for all real ones: for negative n, neither
    is real. So each combination of signs of the unknowns is examined separately, where roots split; what does not split
    (\sqrt{1/(n+1)} is real for some negative n) is compared to 30 digits at points, if it is smooth.
    """
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    if not 0 < len(symbols) <= MAX_UNKNOWNS:
        return False
    gap, seen = left - right, False
    for signs in itertools.product((1, -1), repeat=len(symbols)):
        points = list(_points(symbols, signs))
        real = [(_is_real(_value_at(left, point)), _is_real(_value_at(right, point))) for point in points]
        if any(one is not other for one, other in real):
            return False
        common = [point for point, (is_real, _) in zip(points, real, strict=True) if is_real]
        if common:
            sizes = {s: sign * sympy.Dummy(s.name, positive=True) for s, sign in zip(symbols, signs, strict=True)}
            if sympy.simplify(gap.subs(sizes)) != 0 and not _vanishes(gap, left, common):
                return False
            seen = True
    return seen


def _vanishes(gap: Any, beside: Any, points: list[dict[Any, Any]]) -> bool:
    """Says whether a smooth expression is zero at each point, as far as 30 digits tell."""
    if gap.has(*_PIECEWISE):
        return False
    return all(abs(gap.subs(p).evalf(30, maxn=60)) <= sympy.Float("1e-25") * abs(beside.subs(p).evalf(30)) for p in points)


def _points(symbols: list[Any], signs: tuple[int, ...]) -> Iterator[dict[Any, Any]]:
    """Returns points with the given signs, from small to large, so that a domain such as x > 5 is met."""
    for scale in (sympy.Rational(1, 7), 1, 9, 10**3, 10**6):
        sizes = (scale * sympy.Rational(137 + 29 * i, 100 + 3 * i) for i in range(len(symbols)))
        yield {symbol: sign * size for symbol, sign, size in zip(symbols, signs, sizes, strict=True)}


def _is_real(value: complex | None) -> bool:
    return value is not None and abs(value.imag) <= 1e-9 * abs(value)


def _equal_numbers(left: Any, right: Any, rounded: bool, also_rounded: bool) -> bool:
    if left == right:
        return True
    if any(x.is_infinite or x.has(sympy.nan, sympy.zoo) for x in (left, right)):
        return False
    if rounded != also_rounded:
        other = right if rounded else left
        return not _terminates(other) and bool(abs(sympy.N(left - right, 30)) <= _ROUNDED * abs(sympy.N(other, 30)))
    if left.is_Rational and right.is_Rational:
        return False
    size = max(abs(sympy.N(left, 40)), abs(sympy.N(right, 40)))
    gap = abs(sympy.N(left - right, 40))
    return bool(gap <= size * sympy.Float("1e-30")) and (
        bool(gap == 0) or sympy.simplify(left - right) == 0 or bool((left - right).equals(0))
    )


def _terminates(number: Any) -> bool:
    """Says whether a number can be written as a decimal fraction."""
    if not number.is_Rational:
        return False
    rest = int(number.q)
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1
