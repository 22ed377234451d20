"""Whether two mathematical answers are equal: runs in the worker process, with the parser of `math-verify`.

Numbers, tuples, sets and equations are compared here by stricter rules than the library's own, which rounds to six
decimal places (1e-7 equals 0), reads (8, -2) as an empty interval, finds any two unsolvable equations equal and takes
A for a. The parser is a grammar (ANTLR); no text is ever evaluated as Python.
"""

import math
import re
from functools import lru_cache
from typing import Any

import sympy  # type: ignore[import-untyped]
from latex2sympy2_extended import NormalizationConfig, latex2sympy  # type: ignore[import-untyped]
from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
from math_verify import verify  # type: ignore[import-untyped]
from sympy.logic.boolalg import Boolean  # type: ignore[import-untyped]

from .latex import side_by_side, to_latex, too_wild, without_spaces
from .measured import Measured, measured
from .quantities import same_words
from .structure import Row, Scalar, Structure, structure_of
from .wrapping import unwrapped

_ROUNDED = sympy.Rational(2, 10**6)
"""Relative; a decimal fraction equals a number that no decimal can write if they differ by no more."""
MAX_POWER = 20_000
"""The largest exponent of a number, and the largest number whose factorial is taken."""
MAX_DEGREE = 1_000
"""The largest exponent of anything else."""
_ASSIGNED = re.compile(r"^([a-zA-Z]|\\[a-z]+)(?:_\{?\w+\}?)?(?:\([a-z](?:,\s*[a-z])*\))?\s*(?:=|\\in(?![a-zA-Z])|\\approx)\s*")
_RELATION = re.compile(r"\\(?:le|ge|ne|lt|gt|in|approx|equiv)(?![a-zA-Z])|[=<>]")
_SPELLING = NormalizationConfig(units=False, malformed_operators=True, nits=False, boxed="none", equations=False)
_READING = ConversionConfig(lowercase_symbols=False)  # by default A - a is 0
_BASE = re.compile(r"^([0-9A-Fa-f]+)_\{?(\d+)\}?$")


def equivalent(answer: str, expected: str) -> bool:
    r"""Says whether an answer is mathematically equal to the expected one; False where one cannot be read.

    Args:
        answer: as the model wrote it.
        expected: the reference.

    >>> equivalent(r"\frac{1}{2}", "1/2"), equivalent("(x+1)^2", "x^2+2x+1"), equivalent("(8,-2)", "(9,-3)")
    (True, True, False)
    """
    if too_wild(answer) or too_wild(expected):
        return False
    given, wanted = (to_latex(unwrapped(text)) for text in (answer, expected))
    return _equal_texts(given, wanted)


def _equal_texts(given: str, wanted: str) -> bool:
    given, wanted = _drop_names(given, wanted)
    return _equal(structure_of(given), structure_of(wanted))


def _drop_names(given: str, wanted: str) -> tuple[str, str]:
    """Drops "x =" where only one side has it, or both the same; chains "x = a = b" count as b if a equals b."""
    one, other = _ASSIGNED.match(given), _ASSIGNED.match(wanted)
    if one and not _RELATION.search(wanted):
        return given[one.end() :], wanted
    if other and not _RELATION.search(given):
        return given, wanted[other.end() :]
    if one and other and one[0].replace(" ", "") == other[0].replace(" ", ""):
        return given[one.end() :], wanted[other.end() :]
    for membership, text, sets_first in ((one, wanted, True), (other, given, False)):  # x in [1, 2] is 1 <= x <= 2
        if (
            membership
            and r"\in" in membership[0]
            and _RELATION.search(text)
            and re.search(rf"(?<![a-zA-Z\\]){re.escape(membership[1])}", text)
        ):
            return (given[membership.end() :], wanted) if sets_first else (given, wanted[membership.end() :])
    return given, wanted


def _end_of_chain(text: str) -> str:
    """Returns the last side of an equation between numbers that are all equal, such as 3 + 4 = 7; the text otherwise."""
    sides = text.split("=")
    if not 1 < len(sides) <= 8 or re.search(r"\\(?:le|ge|ne)(?![a-zA-Z])|[<>!:]", text):
        return text
    values = [_parsed(side.strip()) for side in sides]
    if not all(getattr(value, "is_number", False) for value in values):
        return text
    return sides[-1].strip() if all(_equal_expressions(value, values[-1]) for value in values) else text


def _equal(given: Structure, wanted: Structure) -> bool:
    if isinstance(given, Scalar) and isinstance(wanted, Scalar):
        return _equal_scalars(given.text, wanted.text)
    if isinstance(given, Row) and isinstance(wanted, Row):
        return _equal_rows(given, wanted)
    return _interval_and_relation(given, wanted)


def _equal_rows(given: Row, wanted: Row) -> bool:
    given, wanted = _flat(given, wanted), _flat(wanted, given)
    if given.brackets != wanted.brackets and not _interchangeable(given, wanted):
        return False
    if given.unordered and wanted.unordered:
        return _equal_sets(given, wanted)
    same_length = len(given.items) == len(wanted.items)
    return same_length and all(_equal(a, b) for a, b in zip(given.items, wanted.items, strict=True))


def _flat(row: Row, beside: Row) -> Row:
    """Returns a matrix of one column or one row as a vector, where the other side is written as one."""
    nested = [item for item in row.items if isinstance(item, Row)]
    if len(nested) != len(row.items) or any(isinstance(item, Row) for item in beside.items):
        return row
    if len(nested) == 1:
        return Row("()", nested[0].items)
    return Row("()", tuple(item.items[0] for item in nested)) if all(len(item.items) == 1 for item in nested) else row


def _interchangeable(one: Row, other: Row) -> bool:
    """Says whether different brackets mean nothing: none beside () or {}, and [] beside () unless both are intervals."""
    kinds = {one.brackets, other.brackets}
    if kinds in ({"", "()"}, {"", "{}"}):
        return True
    vectors = len(one.items) != 2 or any(isinstance(item, Row) for row in (one, other) for item in row.items)
    return vectors and (kinds in ({"[]", "()"}, {"[]", ""}) or one.brackets == other.brackets)


def _equal_sets(given: Row, wanted: Row) -> bool:
    """Says whether each element of one is in the other; how often it is written does not matter."""
    pairs = ((given.items, wanted.items), (wanted.items, given.items))
    if len(given.items) * len(wanted.items) > 400:
        return False
    return all(any(_equal(a, b) for b in others) for own, others in pairs for a in own)


def _interval_and_relation(given: Structure, wanted: Structure) -> bool:
    """Compares an interval with an inequality or a union, and a set of one element with that element."""
    for row, single in ((given, wanted), (wanted, given)):
        if isinstance(row, Row) and isinstance(single, Scalar):
            if row.brackets == "{}" and len(row.items) == 1:
                return _equal(row.items[0], single)
            if len(row.items) == 2 and row.brackets not in {"", "{}"} and all(isinstance(i, Scalar) for i in row.items):
                left, right = (item.text for item in row.items if isinstance(item, Scalar))
                one, other = (
                    _as_set(_parsed(f"{row.brackets[0]}{left},{right}{row.brackets[1]}")),
                    _as_set(_parsed(single.text)),
                )
                return one is not None and other is not None and _equal_sympy_sets(one, other)
    return False


def _equal_scalars(given: str, wanted: str) -> bool:
    given, wanted = (_end_of_chain(text) for text in _drop_names(given, wanted))
    if isinstance(found := structure_of(given), Row) or isinstance(structure_of(wanted), Row):
        return _equal(found, structure_of(wanted))
    if without_spaces(given) == without_spaces(wanted):
        return given != ""
    if (bases := (_BASE.match(given), _BASE.match(wanted))) != (None, None):
        return _equal_bases(given, wanted, *bases)
    one, other = measured(given), measured(wanted)
    if one.words and other.words and not _same_unit(one, other):
        return False
    scale = sympy.Integer(1)
    if one.unit and other.unit:
        ratio = one.unit.factor / other.unit.factor
        scale = sympy.Rational(ratio.numerator, ratio.denominator)
    left, right = _parsed(one.text), _parsed(other.text)
    if left is None or right is None:
        return False
    if _is_percent(one) != _is_percent(other) and _equal_expressions(*_in_percent(one, left, other, right)):
        return True
    return _equal_expressions(left if scale == 1 else left * scale, right)


def _same_unit(one: Measured, other: Measured) -> bool:
    if one.unit and other.unit:
        return one.unit.dimensions == other.unit.dimensions and one.unit.offset == other.unit.offset
    return same_words(one.words, other.words)


def _is_percent(quantity: Measured) -> bool:
    return quantity.unit is not None and not quantity.unit.dimensions


def _in_percent(one: Measured, left: Any, other: Measured, right: Any) -> tuple[Any, Any]:
    """Divides the side with the percent sign by a hundred."""
    return (left / 100, right) if _is_percent(one) else (left, right / 100)


def _equal_bases(given: str, wanted: str, one: re.Match[str] | None, other: re.Match[str] | None) -> bool:
    """Compares numbers with the base as an index, which may be missing on one side."""
    digits = [
        without_spaces(match[1] if match else text).lstrip("0").upper() for match, text in ((one, given), (other, wanted))
    ]
    return digits[0] == digits[1] and (one is None or other is None or one[2] == other[2])


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """Returns what the library's grammar makes of a text, None if it cannot read it."""
    if not text or side_by_side(text):  # the grammar joins such numbers, or adds them
        return None
    try:
        found = latex2sympy(text, is_real=True, normalization_config=_SPELLING, conversion_config=_READING)
        return _tidy(found) if isinstance(found, sympy.Basic | sympy.MatrixBase) and not _too_large(found) else None
    except (MemoryError, RecursionError):
        return None
    except Exception:  # noqa: BLE001  # the grammar raises bare exceptions
        return None


def _too_large(expression: Any) -> bool:
    """Says whether a power or a factorial would take forever to work out, without working it out."""
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
    """Gives i its meaning, and γ none: an answer rarely means Euler's constant."""
    return expression.xreplace({sympy.Symbol("i", real=True): sympy.I, sympy.EulerGamma: sympy.Symbol("gamma", real=True)})


def _exact(expression: Any) -> tuple[Any, bool]:
    """Returns an expression with its decimal fractions as exact ones, and whether it had any."""
    floats = expression.atoms(sympy.Float) if hasattr(expression, "atoms") else set()
    return expression.xreplace({f: sympy.Rational(str(f)) for f in floats}), bool(floats)


def _equal_expressions(left: Any, right: Any) -> bool:
    (left, rounded), (right, also_rounded) = _exact(left), _exact(right)
    if any(x.has(sympy.nan, sympy.zoo) for x in (left, right)):
        return False
    if isinstance(left, Boolean | sympy.Rel) or isinstance(right, Boolean | sympy.Rel):
        return _equal_relations(left, right)
    if isinstance(left, sympy.Set) or isinstance(right, sympy.Set):
        return isinstance(left, sympy.Set) and isinstance(right, sympy.Set) and _equal_sympy_sets(left, right)
    if getattr(left, "is_number", False) and getattr(right, "is_number", False):
        return _equal_numbers(left.doit(), right.doit(), rounded, also_rounded)
    if left == right:
        return True
    return not _differ_somewhere(left, right) and bool(verify(right, left, timeout_seconds=None))


def _differ_somewhere(left: Any, right: Any) -> bool:
    """Says whether two expressions have plainly different values at a point: then they are not equal, and it is quick."""
    try:
        symbols = sorted(left.free_symbols | right.free_symbols, key=str)
        point = {symbol: sympy.Rational(137 + 29 * i, 100 + 3 * i) for i, symbol in enumerate(symbols)}
        one, other = (complex(side.subs(point).evalf(15)) for side in (left, right))
        gap, size = abs(one - other), max(abs(one), abs(other))
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return False  # no numbers: matrices, functions without a meaning
    return math.isfinite(gap) and gap > 1e-6 * size


def _equal_numbers(left: Any, right: Any, rounded: bool, also_rounded: bool) -> bool:
    if left == right:
        return True
    if any(x.is_infinite or x.has(sympy.nan, sympy.zoo) for x in (left, right)):
        return False
    if rounded != also_rounded:
        exact = right if rounded else left
        return not _terminates(exact) and bool(abs(sympy.N(left - right, 30)) <= _ROUNDED * abs(sympy.N(exact, 30)))
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


def _equal_relations(left: Any, right: Any) -> bool:
    """Compares two equations (up to a factor), or two inequalities (as sets, if in one unknown)."""
    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        one, other = (sympy.numer(sympy.together(relation.lhs - relation.rhs)) for relation in (left, right))
        if one == 0 or other == 0 or one.free_symbols != other.free_symbols:
            return False
        ratio = sympy.cancel(one / other)
        return bool(ratio.is_number and ratio.is_nonzero)
    one, other = _as_set(left), _as_set(right)
    if one is not None and other is not None and _unknowns(left, right) <= 1:
        return _equal_sympy_sets(one, other)
    if isinstance(left, sympy.Rel) and isinstance(right, sympy.Rel):
        return _equal_inequalities(left, right)
    return False


def _unknowns(left: Any, right: Any) -> int:
    return len(left.free_symbols | right.free_symbols)


def _equal_inequalities(left: Any, right: Any) -> bool:
    """Compares a < b with c < d as a - b and c - d, up to a positive factor."""
    greater = {sympy.Gt: sympy.Lt, sympy.Ge: sympy.Le}
    kinds, sides = [], []
    for relation in (left, right):
        turned = type(relation) in greater
        kinds.append(greater.get(type(relation), type(relation)))
        sides.append((relation.rhs - relation.lhs) if turned else (relation.lhs - relation.rhs))
    if kinds[0] is not kinds[1] or sides[1] == 0:
        return False
    ratio = sympy.cancel(sides[0] / sides[1])
    return bool(ratio.is_number and (ratio.is_positive or (kinds[0] is sympy.Ne and ratio.is_nonzero)))


def _as_set(expression: Any) -> Any:
    """Returns a set, or the set that an inequality in one unknown describes; None if it is neither."""
    if expression is None or isinstance(expression, sympy.Set):
        return None if expression is None else _exact(expression)[0]
    if not isinstance(expression, Boolean | sympy.Rel) or len(expression.free_symbols) != 1:
        return None
    expression = _exact(expression)[0]
    parts = expression.args if isinstance(expression, sympy.And) or type(expression).__name__ == "And" else (expression,)
    return sympy.Intersection(*[part.as_set() for part in parts])


def _equal_sympy_sets(one: Any, other: Any) -> bool:
    return bool(one == other or sympy.SymmetricDifference(one, other).doit() is sympy.S.EmptySet or _same_ends(one, other))


def _same_ends(one: Any, other: Any) -> bool:
    if not (isinstance(one, sympy.Interval) and isinstance(other, sympy.Interval)):
        return False
    same_openness = (one.left_open, one.right_open) == (other.left_open, other.right_open)
    return bool(same_openness and _equal_expressions(one.start, other.start) and _equal_expressions(one.end, other.end))
