"""Tuples, intervals, sets, lists and matrices: what can be seen of an answer without understanding its parts."""

import re
from dataclasses import dataclass

from .wrapping import closing


@dataclass(frozen=True)
class Scalar:
    """Something that is compared as a whole, as LaTeX."""

    text: str


@dataclass(frozen=True)
class Row:
    """Several things in brackets.

    Args:
        brackets: "()", "[]", "(]", "[)", "{}", or "" for a list without brackets.
        items: what stands between them.
    """

    brackets: str
    items: tuple["Scalar | Row", ...]

    @property
    def unordered(self) -> bool:
        """Whether the order of the items means nothing."""
        return self.brackets in {"{}", ""}


Structure = Scalar | Row

_MATRIX = re.compile(
    r"^\\begin\{([bpvBV]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}(?:\^(?:T|\{T\}|\\top|\{\\top\}))?$", re.DOTALL
)
_PROGRAM = re.compile(r"^(?:Matrix|ImmutableMatrix|Tuple|FiniteSet|set|list|tuple|np\.array|array)\s*(?=\()")


def structure_of(text: str) -> Structure:
    r"""Returns the structure of an answer in the spelling of `to_latex`.

    >>> structure_of("(1, [2, 3])")
    Row(brackets='()', items=(Scalar(text='1'), Row(brackets='[]', items=(Scalar(text='2'), Scalar(text='3')))))
    >>> structure_of(r"\{1\pm a\}") == structure_of(r"\{1+a, 1-a\}"), structure_of("((x))")
    (True, Scalar(text='x'))
    """
    text = text.strip().replace(r"\langle", "(").replace(r"\rangle", ")").strip()
    matrix = _MATRIX.match(text)
    if matrix:
        return _matrix(matrix[2])
    if program := _PROGRAM.match(text):
        return structure_of(text[program.end() :])
    inner = _inside(text)
    if inner is not None:
        brackets, content = inner
        items = _items(content)
        return items[0] if brackets == "()" and len(items) == 1 else Row(brackets, items)
    items = _items(text)
    return items[0] if len(items) == 1 else Row("", items)


def _items(text: str) -> tuple[Structure, ...]:
    """Returns the items between top-level commas; one with a plus-minus sign is two."""
    parts = split(text)
    if len(parts) == 1:
        text = parts[0]
        if not re.search(r"\\[pm][pm](?![a-zA-Z])", text):
            return (structure_of(text) if _inside(text) or _MATRIX.match(text) else Scalar(text),)
        swapped = text.replace(r"\pm", "\0").replace(r"\mp", r"\pm").replace("\0", r"\mp")
        return tuple(Scalar(re.sub(r"\\pm\s*", "+", re.sub(r"\\mp\s*", "-", variant))) for variant in (text, swapped))
    return tuple(item for part in parts if part for item in _items(part))


def _matrix(body: str) -> Structure:
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr", body) if row.strip()]
    cells = [tuple(structure_of(cell) for cell in row.split("&")) for row in rows]
    return Row("[]", tuple(Row("[]", row) for row in cells))


def _inside(text: str) -> tuple[str, str] | None:
    """Returns the brackets around the whole of a text and what is in them, None if there are none."""
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


def split(text: str) -> list[str]:
    """Returns the parts of a text between the commas and semicolons that no bracket encloses.

    >>> split("1, (2, 3), f(x, y)")
    ['1', '(2, 3)', 'f(x, y)']
    """
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character in ",;" and depth == 0 and text[i - 1 : i] != "\\":
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]
