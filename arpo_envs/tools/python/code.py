"""What a model writes around its code: Markdown fences and a common indentation are removed."""

import re
import textwrap

_OPENING = re.compile(r"^\s{0,3}(`{3,}|~{3,})[ \t]*([\w+.-]*)[ \t]*$")
_PYTHON = re.compile(r"i?py(?:thon)?[\d.]*", re.I)
_STRING = re.compile(r"""("{3}|'{3})|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|#.*""")
_ONE_LINE = re.compile(r"^(`{3,})(?:(?:python3?|py)[ \t]+)?([^`]*)\1$")


def strip_fences(code: str) -> str:
    r"""Returns the code inside Markdown fences, or the text itself if it does not begin with one.

    Blocks that are marked as Python are joined; without one, the first block is the code. Other blocks are left out, such as an
    output that the model made up, and so are words after a block; words *before* the first fence are code, and so a syntax
    error that tells the model what it did. A common indentation is removed.

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
        blocks = _blocks(lines[first:])
        marked = [block for mark, block in blocks if _PYTHON.fullmatch(mark)]
        code = "\n".join(marked or [blocks[0][1]]).strip("\n")
    return _dedented(code)


def _blocks(lines: list[str]) -> list[tuple[str, str]]:
    """Returns the blocks of a text that begins with a fence, each with its mark; an unclosed one ends with the text."""
    blocks: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        at += 1
        if opening is None:
            continue  # words between two blocks
        end = _end(lines, at, opening[1])
        blocks.append((opening[2], "\n".join(lines[at:end])))
        at = end + 1
    return blocks


def _end(lines: list[str], start: int, fence: str) -> int:
    """Returns the line that closes a block: the first bare fence outside a string of several lines, if there is one."""
    closing, quote = len(lines), ""
    for number in range(start, len(lines)):
        found = _OPENING.match(lines[number])
        if found is not None and found[1][0] == fence[0] and len(found[1]) >= len(fence):
            if not quote:  # with a language, the next block begins here
                return closing if found[2] else number
            if not found[2]:
                closing = min(closing, number)
        quote = _open_quote(quote, lines[number])
    return closing


def _open_quote(quote: str, line: str) -> str:
    """Returns the triple quotes of the string that is open after a line, given those before it; "" for none."""
    at = 0
    while True:
        if quote:
            at = line.find(quote, at) + len(quote)
            if at < len(quote):
                return quote
        found = _STRING.search(line, at)
        if found is None:
            return ""
        quote, at = found[1] or "", found.end()


def _dedented(code: str) -> str:
    first = next((line for line in code.split("\n") if line.strip()), "")
    return textwrap.dedent(code) if first[:1] in (" ", "\t") else code
