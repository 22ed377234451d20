"""What a model writes around its code: Markdown fences and a common indentation are removed."""

import re
import textwrap

_OPENING = re.compile(r"^\s{0,3}(`{3,}+|~{3,}+)[ \t]*+([\w+.-]*+)[ \t]*+$")
_PYTHON = re.compile(r"i?py(?:thon)?[\d.]*|tool_code")  # the last is Gemini's
_OURS = "python"
_NO_CODE = re.compile(
    r"(?:\w+_)?(?:out(?:put)?s?|std(?:out|err)|results?|responses?|errors?|traceback|console|logs?)"
    r"|te?xt|plain(?:text)?|json|csv|md|markdown"
)
"""Marks of what nobody means to run."""
_STRING = re.compile(r"""("{3}|'{3})|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|#.*""")
_ONE_LINE = re.compile(r"^(`{3,}+)(?:(?:python3?|py)[ \t]++)?([^`]*+)\1$")


def strip_fences(code: str) -> str:
    r"""Returns the code inside Markdown fences, or the text itself if it does not begin with one.

    Blocks that are marked as Python are joined; without one, those with the mark of the first block. A first block without a
    mark is code, too. Other blocks are left out, such as an output that the model made up, and so are words after a block;
    words *before* the first fence are code, and so a syntax error that tells the model what it did. A common indentation is
    removed.

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
        code = "\n".join(_meant(_blocks(lines[first:]))).strip("\n")
    return _dedented(code)


def _meant(blocks: list[tuple[str, str]]) -> list[str]:
    """Returns the blocks that are code, given all of a text with their marks."""
    blocks = [(mark, block) for mark, block in blocks if block.strip()]
    blocks = [(mark, block) for mark, block in blocks if not _NO_CODE.fullmatch(mark)] or blocks[:1]
    marks = [mark for mark, _ in blocks]
    chosen = _OURS if _OURS in marks else next(iter(marks), "")
    return [block for i, (mark, block) in enumerate(blocks) if (mark == chosen if mark else i == 0)]


def _blocks(lines: list[str]) -> list[tuple[str, str]]:
    """Returns the blocks of a text that begins with a fence, each with its mark; an unclosed one ends with the text."""
    blocks: list[tuple[str, str]] = []
    at, strings = 0, True
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        at += 1
        if opening is None:
            continue  # words between two blocks
        end, quote = _end(lines, at, opening[1], strings)
        if quote:  # a string without an end: its quotes mean nothing, and to look again in every block would take too long
            strings = False
            end, _ = _end(lines, at, opening[1], strings)
        mark = opening[2].lower()
        blocks.append((_OURS if _PYTHON.fullmatch(mark) else mark, "\n".join(lines[at:end])))
        closing = _OPENING.match(lines[end]) if end < len(lines) else None
        at = end if closing is None or closing[2] else end + 1  # with a mark, it opens the next block
    return blocks


def _end(lines: list[str], start: int, fence: str, strings: bool) -> tuple[int, str]:
    """Returns the line of the fence that ends a block, or the end of the text and the quotes of a string that is open there.

    Args:
        lines: the text.
        start: the first line of the block.
        fence: that opened it.
        strings: whether a fence inside a string of several lines ends nothing.
    """
    quote = ""
    for number in range(start, len(lines)):
        found = _OPENING.match(lines[number])
        if found is not None and not quote and found[1].startswith(fence):
            return number, ""
        if strings:
            quote = _open_quote(quote, lines[number])
    return len(lines), quote


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
