"""Equations, inequalities and sets of real numbers: whether two of them are the same.

Equations are compared up to a factor, inequalities in one unknown as the sets they describe. (`math-verify` finds any two
unsolvable equations equal.)
"""

from dataclasses import dataclass
from typing import Any

import sympy  # type: ignore[import-untyped]
from sympy.logic.boolalg import Boolean  # type: ignore[import-untyped]

from .expressions import equal_expressions, exact, parsed
from .structure import JUNCTIONS, Row, Scalar, Structure

MAX_PARTS = 20
"""More joined inequalities than this are not made into a set."""


@dataclass(frozen=True)
class Region:
    """A set of real numbers.

    Args:
        numbers: the set.
        unknown: the name of the unknown that lies in it; None if none was written.
    """

    numbers: Any
    unknown: str | None = None


def equal_values(left: Any, right: Any) -> bool:
    """Says whether two things read by sympy are equal: relations, sets, expressions or numbers."""
    left, right = exact(left)[0] if _is_set(left) else left, exact(right)[0] if _is_set(right) else right
    if _is_relation(left) or _is_relation(right):
        return _equal_relations(left, right)
    if _is_set(left) or _is_set(right):
        return _is_set(left) and _is_set(right) and _equal_sets(left, right)
    return equal_expressions(left, right)


def _is_set(value: Any) -> bool:
    return isinstance(value, sympy.Set)


def _is_relation(value: Any) -> bool:
    """Says whether a value is an equation, an inequality, or several joined; sympy counts any symbol as a truth value, too."""
    return isinstance(value, Boolean | sympy.Rel) and not isinstance(value, sympy.Symbol)


def region_of(structure: Structure) -> Region | None:
    """Returns the real numbers that an interval, an inequality in one unknown, or several joined ones describe."""
    if isinstance(structure, Scalar):
        return _region(parsed(structure.text))
    if not isinstance(structure, Row):
        return None
    if structure.brackets in JUNCTIONS and len(structure.items) <= MAX_PARTS:
        regions = [region_of(item) for item in structure.items]
        known = [region for region in regions if region is not None]
        unknowns = {region.unknown for region in known}
        if len(known) < len(regions) or len(unknowns) != 1:
            return None
        join = sympy.Union if structure.brackets == "or" else sympy.Intersection
        return Region(join(*(region.numbers for region in known)), unknowns.pop())
    ends = [item.text for item in structure.items if isinstance(item, Scalar)]
    if len(ends) == len(structure.items) == 2 and structure.brackets in {"()", "[]", "(]", "[)"}:
        return _region(parsed(f"{structure.brackets[0]}{ends[0]},{ends[1]}{structure.brackets[1]}"))
    return None


def equal_regions(one: Region, other: Region) -> bool:
    """Says whether two sets of real numbers are the same; if both name their unknown, by the same name."""
    return (None in {one.unknown, other.unknown} or one.unknown == other.unknown) and _equal_sets(one.numbers, other.numbers)


def _region(value: Any) -> Region | None:
    if value is None:
        return None
    value = exact(value)[0]
    if _is_set(value):
        return Region(value)
    if not _is_relation(value) or len(value.free_symbols) != 1:
        return None
    parts = value.args if type(value).__name__ == "And" else (value,)
    return Region(sympy.Intersection(*[part.as_set() for part in parts]), str(next(iter(value.free_symbols))))


def _equal_relations(left: Any, right: Any) -> bool:
    """Compares two equations (up to a factor), or two inequalities (as sets, if in one unknown)."""
    left, right = exact(left)[0], exact(right)[0]
    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        one, other = (sympy.numer(sympy.together(relation.lhs - relation.rhs)) for relation in (left, right))
        if one == 0 or other == 0 or one.free_symbols != other.free_symbols:
            return False
        ratio = sympy.cancel(one / other)
        return bool(ratio.is_number and ratio.is_nonzero)
    one_region, other_region = _region(left), _region(right)
    if one_region is not None and other_region is not None:
        return equal_regions(one_region, other_region)
    if isinstance(left, sympy.Rel) and isinstance(right, sympy.Rel):
        return _equal_inequalities(left, right)
    return False


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


def _equal_sets(one: Any, other: Any) -> bool:
    return bool(one == other or sympy.SymmetricDifference(one, other).doit() is sympy.S.EmptySet or _same_ends(one, other))


def _same_ends(one: Any, other: Any) -> bool:
    if not (isinstance(one, sympy.Interval) and isinstance(other, sympy.Interval)):
        return False
    same_openness = (one.left_open, one.right_open) == (other.left_open, other.right_open)
    return bool(same_openness and equal_expressions(one.start, other.start) and equal_expressions(one.end, other.end))
