"""Tuples, intervals, sets, lists, systems and matrices: what can be seen of an answer without understanding its parts."""

import re
from dataclasses import dataclass

from ..wrapping import closing


@dataclass(frozen=True)
class Scalar:
    """Something that is compared as a whole, as LaTeX."""

    text: str


@dataclass(frozen=True)
class Row:
    """Several things in brackets.

    Args:
        brackets: "()", "[]", "(]", "[)", "{}", "" for a list without brackets; "or" and "and" for joined inequalities.
        items: what is between them.
    """

    brackets: str
    items: "tuple[Structure, ...]"

    @property
    def unordered(self) -> bool:
        """Whether the order of the items means nothing."""
        return self.brackets in {"{}", "", *JUNCTIONS}


@dataclass(frozen=True)
class System:
    """Values of several unknowns, such as x = 1, y = 2 or (x, y) = (1, 2).

    Args:
        names: the unknowns' names, in alphabetical order.
        values: one for each.
    """

    names: tuple[str, ...]
    values: "tuple[Structure, ...]"


Structure = Scalar | Row | System

JUNCTIONS = {"or": r"\lor", "and": r"\land"}
"""How inequalities are joined, with the sign in `to_latex`'s spelling; "or" binds less."""

_MATRIX = re.compile(r"^\\begin\{([bpB]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}$", re.DOTALL)
_CASES = re.compile(r"^\\begin\{cases\}([^&]*)\\end\{cases\}$")
_TRANSPOSED = re.compile(r"\s*(?:\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?|\.T)$")
_LINE_BREAK = re.compile(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])")
_ORDER = re.compile(r"\\(?:le|ge|ne|lt|gt)(?![a-zA-Z])|[<>]")
_NAME = r"(?:[a-zA-Z]+|\\[a-zA-Z]+)(?:_(?:\w|\{\w+\}))?"
_NAMED = re.compile(rf"^({_NAME}(?:\([^()]{{1,20}}\))?)\s*=(.*)$", re.DOTALL)
_NAMED_TUPLE = re.compile(rf"^\(\s*({_NAME}(?:\s*,\s*{_NAME})+)\s*\)\s*(?:=|\\in(?![a-zA-Z]))(.*)$", re.DOTALL)
_PROGRAM = re.compile(r"^(Matrix|ImmutableMatrix|Tuple|FiniteSet|Interval|set|list|tuple|np\.array|array)\s*(?=\()")
_BRACKETS = {"FiniteSet": "{}", "set": "{}", "Interval": "[]", "array": "()", "np.array": "()"}


def structure_of(text: str) -> Structure:
    r"""Returns the structure of an answer in the spelling of `to_latex`.

    >>> structure_of("(1, [2, 3])")
    Row(brackets='()', items=(Scalar(text='1'), Row(brackets='[]', items=(Scalar(text='2'), Scalar(text='3')))))
    >>> structure_of(r"\{1\pm a\}") == structure_of(r"\{1+a, 1-a\}"), structure_of("((x))")
    (True, Scalar(text='x'))
    >>> structure_of("(y, x) = (2, 1)") == structure_of("x = 1, y = 2")
    True
    """
    text = text.strip().replace(r"\langle", "(").replace(r"\rangle", ")").strip()
    brackets, content = _inside(text) or ("", text)
    for kind, sign in JUNCTIONS.items():
        parts = split(content, sign)
        if len(parts) > 1 and _ORDER.search(content):
            return Row(kind, tuple(structure_of(part) for part in parts if part))
    items = _items(content)
    if len(items) == 1 and brackets in {"", "()"}:
        return items[0]
    alternatives = len(split(content, JUNCTIONS["or"])) > 1
    return Row(brackets, items) if alternatives else _system(items) or Row(brackets, items)


def _whole(text: str) -> Structure | None:
    """Returns the structure of a matrix, of named tuples, or of a program's container; None for anything else."""
    if matrix := _MATRIX.match(text):
        rows = [row for row in _LINE_BREAK.split(matrix[2]) if row.strip()]
        return Row("[]", tuple(Row("[]", tuple(structure_of(cell) for cell in row.split("&"))) for row in rows))
    if cases := _CASES.match(text):
        return structure_of(JUNCTIONS["and"].join(part.strip(" ,;") for part in _LINE_BREAK.split(cases[1])))
    if named := _NAMED_TUPLE.match(text):
        return _named_tuple(tuple(map(str.strip, named[1].split(","))), structure_of(named[2]))
    if turned := _TRANSPOSED.search(text):
        ahead = text[: turned.start()]
        row = structure_of(ahead) if _inside(ahead) or _MATRIX.match(ahead) or _PROGRAM.match(ahead) else None
        return _transposed(row) if isinstance(row, Row) else None
    if program := _PROGRAM.match(text):
        row = structure_of(text[program.end() :])
        if not isinstance(row, Row) or any(isinstance(item, Row) for item in row.items):
            return row
        return Row(_BRACKETS.get(program[1], row.brackets), row.items)
    return None


def _items(text: str) -> tuple[Structure, ...]:
    """Returns what top-level commas, "or" and "and" separate; an item with a plus-minus sign becomes two."""
    for sign in JUNCTIONS.values():
        parts = split(text, sign)
        if len(parts) > 1:
            found = [structure_of(part) for part in parts if part]
            return tuple(i for one in found for i in (one.items if isinstance(one, Row) and not one.brackets else (one,)))
    parts = split(text)
    if len(parts) > 1:
        return tuple(item for part in parts if part for item in _items(part))
    text = parts[0]
    if (found_whole := _whole(text)) is not None:
        return (found_whole,)
    if _inside(text):
        return (structure_of(text),)
    if not re.search(r"\\[pm][pm](?![a-zA-Z])", text):
        return (Scalar(text),)
    swapped = text.replace(r"\pm", "\0").replace(r"\mp", r"\pm").replace("\0", r"\mp")
    return tuple(Scalar(re.sub(r"\\pm\s*", "+", re.sub(r"\\mp\s*", "-", variant))) for variant in (text, swapped))


def _system(items: tuple[Structure, ...]) -> Structure | None:
    """Returns equations that give several unknowns their values; a repeated name begins another solution."""
    solutions: list[dict[str, Structure]] = []
    for item in items:
        found = _NAMED.match(item.text) if isinstance(item, Scalar) else None
        if found is None:
            return None
        name = re.sub(r"[{}\s]", "", found[1])
        if not solutions or name in solutions[-1]:
            solutions.append({})
        solutions[-1][name] = structure_of(found[2])
    names = set(solutions[0]) if solutions else set()
    if len(names) < 2 or any(set(solution) != names for solution in solutions):
        return None
    return _solutions(solutions)


def _named_tuple(names: tuple[str, ...], values: Structure) -> Structure | None:
    """Returns the values of (x, y) = (1, 2), or of (x, y) in a set of pairs."""
    if not isinstance(values, Row) or len(set(names)) < len(names):
        return None
    names = tuple(re.sub("[{}]", "", name) for name in names)
    rows = values.items if all(isinstance(item, Row) for item in values.items) else (values,)
    tuples = [row.items for row in rows if isinstance(row, Row) and len(row.items) == len(names)]
    return _solutions([dict(zip(names, own, strict=True)) for own in tuples]) if len(tuples) == len(rows) > 0 else None


def _solutions(found: list[dict[str, Structure]]) -> Structure:
    names = sorted(found[0], key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(9), name))
    systems = tuple(System(tuple(names), tuple(own[name] for name in names)) for own in found)
    return systems[0] if len(systems) == 1 else Row("", systems)


def _transposed(row: Row) -> Row | None:
    """Returns the transpose of a matrix; a vector is unchanged; None for anything else."""
    rows = [item.items for item in row.items if isinstance(item, Row)]
    if not rows:
        return row if row.brackets in {"()", "[]"} else None
    if len(rows) < len(row.items) or len({len(own) for own in rows}) > 1:
        return None
    return Row("[]", tuple(Row("[]", column) for column in zip(*rows, strict=True)))


def _inside(text: str) -> tuple[str, str] | None:
    """Returns the brackets around a whole text and what is inside, or None if there are none."""
    if text.startswith(r"\{") and text.endswith(r"\}") and _escaped_end(text) == len(text) - 1:
        return "{}", text[2:-2]
    if text.startswith("{") and text.endswith("}") and closing(text, 0) == len(text) - 1:
        return "{}", text[1:-1]
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and closing(text, 0) == len(text) - 1:
        return text[0] + text[-1], text[1:-1]
    return None


def _escaped_end(text: str) -> int:
    depth = 0
    for found in re.finditer(r"\\([{}])", text):
        depth += 1 if found[1] == "{" else -1
        if depth == 0:
            return found.end() - 1
    return -1


def split(text: str, sign: str = "") -> list[str]:
    """Returns the parts of a text between the commas and semicolons that no bracket encloses.

    Args:
        text: LaTeX or program text.
        sign: what separates the parts, instead of commas and semicolons.

    >>> split("1, (2, 3), f(x, y)"), split("x<1 or (y or z)", "or")
    (['1', '(2, 3)', 'f(x, y)'], ['x<1', '(y or z)'])
    """
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and (text.startswith(sign, i) if sign else character in ",;" and text[i - 1 : i] != "\\"):
            parts.append(text[start:i].strip())
            start = i + (len(sign) or 1)
    return [*parts, text[start:].strip()]
