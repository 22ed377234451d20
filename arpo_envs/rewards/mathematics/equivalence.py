"""Whether two mathematical answers are equal: runs in the worker process, with the parser of `math-verify`.

Tuples, sets, lists and systems are compared here part by part. (The library reads (8, -2) as an empty interval, and takes
A for a.)
"""

import re
from typing import Any, NamedTuple

import sympy  # type: ignore[import-untyped]

from ..wrapping import unwrapped
from .expressions import is_matrix, parsed
from .latex import to_latex, too_wild, without_spaces
from .measured import Measured, measured_pair, same_unit
from .relations import equal_regions, equal_values, region_of
from .structure import JUNCTIONS, Row, Scalar, Structure, System, structure_of

_ASSIGNED = re.compile(r"^([a-zA-Z]|\\[a-z]+)(?:_\{?\w+\}?)?(?:\([a-z](?:,\s*[a-z])*\))?\s*(?:=|\\in(?![a-zA-Z])|\\approx)\s*")
_RELATION = re.compile(r"\\(?:le|ge|ne|lt|gt|in|approx|equiv)(?![a-zA-Z])|[=<>]")
_INDEX = re.compile(r"(?<!\\log)_(\d+|[A-Za-z])")  # \log_28 is \log_{2}8
_INDEXED = re.compile(r"^\(*([+-]?)\(*([0-9A-Za-z]*)(?:\.([0-9A-Za-z]+))?\)*(?:_\{?(\d{1,2})\}?\)*)?$")
_NUMERAL = re.compile(r"^(?:[0-9A-Z]*[0-9][0-9A-Z]*|[A-Z]{2,})$")
_POWER_OF_TEN = re.compile(r"(?<=\d)\\times10\^\{(\d+)\}")


def equivalent(answer: str, expected: str) -> bool:
    r"""Says whether an answer is mathematically equal to the expected one; False if either cannot be read.

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
    structures = structure_of(given), structure_of(wanted)
    if any(isinstance(part, System) for found in structures for part in (found, *getattr(found, "items", ()))):
        return _equal(*structures)  # each value has its own name
    return _equal(*map(structure_of, _drop_names(given, wanted)))


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
    values = [parsed(side.strip()) for side in sides]
    if not all(getattr(value, "is_number", False) for value in values):
        return text
    return sides[-1].strip() if all(equal_values(value, values[-1]) for value in values) else text


def _equal(given: Structure, wanted: Structure) -> bool:
    if isinstance(given, Scalar) and isinstance(wanted, Scalar):
        return _equal_scalars(given.text, wanted.text)
    if isinstance(given, System) or isinstance(wanted, System):
        return _equal_systems(given, wanted)
    if isinstance(given, Row) and isinstance(wanted, Row):
        joined = {given.brackets, wanted.brackets} & JUNCTIONS.keys()
        return _equal_rows(given, wanted) or (bool(joined) and _equal_as_a_whole(given, wanted))
    return _equal_as_a_whole(given, wanted)


def _equal_systems(given: Structure, wanted: Structure) -> bool:
    """Compares values by their names; with a tuple or a list without names, in alphabetical order."""
    if isinstance(given, System) and isinstance(wanted, System):
        return given.names == wanted.names and all(map(_equal, given.values, wanted.values))
    system, row = (given, wanted) if isinstance(given, System) else (wanted, given)
    if not (isinstance(system, System) and isinstance(row, Row)) or row.brackets not in {"", "()", "[]"}:
        return False
    if len(row.items) != len(system.values) or any(isinstance(i, Scalar) and _ASSIGNED.match(i.text) for i in row.items):
        return False
    return all(map(_equal, system.values, row.items))


def _equal_rows(given: Row, wanted: Row) -> bool:
    given, wanted = _flat(given, wanted), _flat(wanted, given)
    if given.brackets != wanted.brackets and not _interchangeable(given, wanted):
        return False
    if given.unordered and wanted.unordered:
        return _equal_sets(given, wanted)
    same_length = len(given.items) == len(wanted.items)
    return same_length and all(_equal(a, b) for a, b in zip(given.items, wanted.items, strict=True))


def _flat(row: Row, beside: Row) -> Row:
    """Returns a matrix of one column or one row as a vector, if the other side is written as one."""
    nested = [item for item in row.items if isinstance(item, Row)]
    if len(nested) != len(row.items) or any(isinstance(item, Row) for item in beside.items):
        return row
    brackets = beside.brackets if beside.brackets in {"()", "[]"} else "()"
    if len(nested) == 1:
        return Row(brackets, nested[0].items)
    column = all(len(item.items) == 1 for item in nested)
    return Row(brackets, tuple(item.items[0] for item in nested)) if column else row


def _interchangeable(one: Row, other: Row) -> bool:
    """Says whether different brackets mean nothing: none versus () or {}, and [] versus () unless both are intervals.

    A comma between inequalities may mean "or" as well as "and".
    """
    kinds = {one.brackets, other.brackets}
    if kinds in ({"", "()"}, {"", "{}"}) or ("" in kinds and kinds & JUNCTIONS.keys()):
        return True
    vectors = len(one.items) != 2 or any(isinstance(item, Row) for row in (one, other) for item in row.items)
    return vectors and (kinds in ({"[]", "()"}, {"[]", ""}) or one.brackets == other.brackets)


def _equal_sets(given: Row, wanted: Row) -> bool:
    """Says whether each element of one is in the other; repetitions do not matter."""
    pairs = ((given.items, wanted.items), (wanted.items, given.items))
    if len(given.items) * len(wanted.items) > 400:
        return False
    return all(any(_equal(a, b) for b in others) for own, others in pairs for a in own)


def _equal_as_a_whole(given: Structure, wanted: Structure) -> bool:
    """Compares what is written in different ways: intervals, inequalities and unions; matrices; a set of one element."""
    one, other = region_of(given), region_of(wanted)
    if one is not None and other is not None:
        return equal_regions(one, other)
    left, right = _matrix_of(given), _matrix_of(wanted)
    if left is not None and right is not None:
        return equal_values(left, right)
    for row, single in ((given, wanted), (wanted, given)):
        if isinstance(row, Row) and isinstance(single, Scalar) and row.brackets == "{}" and len(row.items) == 1:
            return _equal(row.items[0], single)
    return False


def _matrix_of(structure: Structure) -> Any:
    """Returns a matrix as sympy's, None for anything else."""
    if isinstance(structure, Scalar):
        found = parsed(structure.text)
        return found if is_matrix(found) else None
    rows = [item.items for item in structure.items if isinstance(item, Row)] if isinstance(structure, Row) else []
    cells = [[parsed(cell.text) for cell in row if isinstance(cell, Scalar)] for row in rows]
    if not cells or len({len(row) for row in (*rows, *cells)}) > 1 or any(cell is None for row in cells for cell in row):
        return None
    return sympy.ImmutableMatrix(cells)


def _equal_scalars(given: str, wanted: str) -> bool:
    given, wanted = (_end_of_chain(text) for text in _drop_names(given, wanted))
    if isinstance(found := structure_of(given), Row) or isinstance(structure_of(wanted), Row):
        return _equal(found, structure_of(wanted))
    spelt, expected = (_INDEX.sub(r"_{\1}", without_spaces(text)) for text in (given, wanted))
    if spelt == expected:
        return given != ""
    if (numeral := _numeral(spelt)) and (beside := _numeral(expected)) and _are_written_numbers(numeral, beside):
        return _equal_numerals(numeral, beside)
    one, other = measured_pair(given, wanted)
    if not same_unit(one, other):
        return False
    scale = sympy.Integer(1)
    if one.unit and other.unit:
        ratio = one.unit.factor / other.unit.factor
        scale = sympy.Rational(ratio.numerator, ratio.denominator)
    left, right = parsed(one.text), parsed(other.text)
    if left is None or right is None:
        return False
    if not (isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr)):  # an equation cannot be multiplied
        return scale == 1 and equal_values(left, right)
    if _is_percent(one) != _is_percent(other) and equal_values(*_in_percent(one, left, other, right)):
        return True
    return equal_values(left if scale == 1 else left * scale, right)


def _is_percent(quantity: Measured) -> bool:
    return quantity.unit is not None and not quantity.unit.dimensions


def _in_percent(one: Measured, left: Any, other: Measured, right: Any) -> tuple[Any, Any]:
    """Divides the side with the percent sign by a hundred."""
    return (left / 100, right) if _is_percent(one) else (left, right / 100)


class _Numeral(NamedTuple):
    """Digits, letters among them; the base is "" where it is missing."""

    sign: str
    whole: str
    part: str
    base: str


def _numeral(text: str) -> _Numeral | None:
    """Returns what may be a numeral; None for anything else, such as a name's index."""
    found = _INDEXED.match(_POWER_OF_TEN.sub(r"E\1", text))  # 1e5 may be digits in base 16
    if found is None:
        return None
    sign, whole, part, base = found.groups(default="")
    if base and not (2 <= int(base) <= 36 and all(int(digit, 36) < int(base) for digit in whole + part)):
        return None
    return _Numeral(sign, whole, part, base) if whole + part else None


def _are_written_numbers(one: _Numeral, other: _Numeral) -> bool:
    """Says whether one of two numerals has a base and one can be nothing but a numeral.

    Whether small letters are digits cannot be seen from one numeral alone: a_{16} may be the sixteenth term of a sequence.
    """
    return bool(one.base or other.base) and any(_NUMERAL.match(numeral.whole + numeral.part) for numeral in (one, other))


def _equal_numerals(one: _Numeral, other: _Numeral) -> bool:
    """Compares two numerals as they are written: their question asks for digits, not for a value."""
    digits = [(n.sign == "-", n.whole.lstrip("0").upper(), n.part.rstrip("0").upper()) for n in (one, other)]
    return digits[0] == digits[1] and (one.base == other.base or not (one.base and other.base))
