"""What a model writes around its code: Markdown fences and a common indentation are removed."""

import re
import textwrap

_OPENING = re.compile(r"^\s{0,3}(`{3,}|~{3,})[ \t]*([\w+.-]*)[ \t]*$")
_ONE_LINE = re.compile(r"^(`{3,})(?:(?:python3?|py)[ \t]+)?([^`]*)\1$")


def strip_fences(code: str) -> str:
    r"""Returns the code inside Markdown fences, or the text itself if it does not begin with one.

    Several fenced blocks are joined, and words after a block are dropped; words *before* the first fence
    are code, and so a syntax error that tells the model what it did. A common indentation is removed.

    Args:
        code: what the model wrote.

    >>> strip_fences("```python\nx = 1\n```")
    'x = 1'
    >>> strip_fences("    x = 1\n    x")
    'x = 1\nx'
    """
    code = code.replace("\r\n", "\n").strip("\n")
    one_line = _ONE_LINE.match(code.strip())
    if one_line is not None and "\n" not in code.strip():
        return one_line[2].strip()
    lines = code.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return ""
    if _OPENING.match(lines[first]):
        code = "\n".join(_blocks(lines[first:])).strip("\n")
    return _dedented(code)


def _blocks(lines: list[str]) -> list[str]:
    """Returns the lines inside the fences of a text that begins with one; an unclosed block ends with the text."""
    inside: list[str] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        at += 1
        if opening is None:
            continue  # words between two blocks
        end = _end(lines, at, opening[1])
        inside += lines[at:end]
        at = end + 1
    return inside


def _end(lines: list[str], start: int, fence: str) -> int:
    """Returns the line that closes a block: the last bare fence before another block is opened."""
    closing = len(lines)
    for number in range(start, len(lines)):
        found = _OPENING.match(lines[number])
        if found is None or found[1][0] != fence[0] or len(found[1]) < len(fence):
            continue
        if found[2]:  # a language: the next block begins here
            break
        closing = number
    return closing


def _dedented(code: str) -> str:
    first = next((line for line in code.split("\n") if line.strip()), "")
    return textwrap.dedent(code) if first[:1] in (" ", "\t") else code
