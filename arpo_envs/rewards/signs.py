"""Signs of all scripts turned into those of ASCII, and emphasis removed: the first step of reading any written answer."""

import re
import unicodedata
from functools import lru_cache

from ..tasks.text import plain

_PAUSES = ("STOP", "COMMA", "COLON", "MARK", "ELLIPSIS", "DANDA", "SHAD", "SECTION", "KHAN")
"""Endings of the Unicode names of the marks that divide sentences and their parts, in any script."""
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9*_`])([*_`]{1,3})(?=[^\s*_`])([^*_`]+)(?<=\S)\1(?![A-Za-z0-9*_`])")
_NESTED = 3
"""Levels of nested emphasis; anything with more is not an answer."""


def plain_signs(text: str) -> str:
    r"""Returns `text` with plain letters, dashes, quotation marks and pauses, and without emphasis.

    Args:
        text: an answer.

    >>> [plain_signs(text) for text in ("„Hamlet“", "O’Brien", "巴黎。", "1914–1918", "**Prince** of _Denmark_", "a*b*c")]
    ['"Hamlet"', "O'Brien", '巴黎, ', '1914-1918', 'Prince of Denmark', 'a*b*c']
    """
    text = plain(text)
    if not text.isascii():
        text = "".join(map(_sign, text))
    for _ in range(_NESTED):
        text = _EMPHASIS.sub(r"\2", text)
    return text


@lru_cache(maxsize=4096)
def _sign(character: str) -> str:
    if character.isascii():
        return character
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    if kind == "Pd" or character == "−":
        return "-"
    if "APOSTROPHE" in name or ("SINGLE" in name and "QUOTATION" in name) or name == "MODIFIER LETTER TURNED COMMA":
        return "'"
    if kind in {"Pi", "Pf", "Ps", "Pe"}:
        return '"'  # brackets of other scripts are quotation marks there
    return ", " if kind == "Po" and name.endswith(_PAUSES) else character
