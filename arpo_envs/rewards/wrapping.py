"""Taking an answer out of what a model wraps it in: boxes, bold type, dollar signs, "The final answer is".

Every checker reads an answer through this one function. Only strings are handled, in linear time.
"""

import re
import unicodedata

from ..tasks.text import visible

_LEAD = re.compile(
    r"^[\s*_#]*(?:(?:so|thus|therefore|hence)\b,?\s+)?(?:(?:the|my|our)\s+)?(?:(?:final|correct|right)\s+)?answer[\s*_]*"
    r"(?:(?:is|are)\b|:|：|=|\n)[\s*_]*:?\s*|^\s*(?:最终|最後の)?(?:答案|答え)\s*(?:是|为|は|:|：)\s*[:：]?\s*",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^(?:#{1,6}|[*•>=])\s+")
_PAIRS = (
    *(("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")),
    *(("***", "***"), ("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("```", "```"), ("`", "`")),
)
_MARKUP = re.compile(r"<([A-Za-z]\w*)>(.*)</\1>", re.DOTALL)
_FENCE = re.compile(r"(```)\w*\n(.*?)\s*```", re.DOTALL)
TYPEFACE = (
    r"\\(?:text(?:bf|it|rm|normal|sf|tt|sc|sl|up|md)?|math(?:rm|bf|it|sf|tt|normal)|rm|bf|it|sf|tt|bm|boldsymbol|emph|underline"
    r"|mbox|operatorname)\s*\{"
)
"""How LaTeX opens text in another typeface."""
_TYPEFACE = re.compile(TYPEFACE)
_MOST = 8
"""Levels of nested wrappers; anything with more is not an answer."""


def unwrapped(text: str) -> str:
    r"""Returns what is inside boxes, dollar signs, quotes and emphasis, and after phrases like "The answer is".

    Args:
        text: an answer; of several boxes the last one counts.

    >>> [unwrapped(text) for text in (r"so \boxed{\frac{1}{2}}.", "$x$", r"\text{ east}", "The answer is: 5.", "$5")]
    ['\\frac{1}{2}', 'x', 'east', '5', '$5']
    >>> [unwrapped(text) for text in ("✅ Final Answer: **58**", "#### 70000", "**Answer:** 7", "The answer is \\[ 49 \\]")]
    ['58', '70000', '7', '49']
    >>> [unwrapped(text) for text in ("„Hamlet“", "<b>58</b>", "f'", "'tis", '"A" or "B"')]
    ['Hamlet', '58', "f'", "'tis", '"A" or "B"']
    """
    text = _last_box(visible(text)).strip()
    for _ in range(_MOST):
        shorter = _once(text).strip()
        if shorter in {"", text}:  # a flag may be the answer
            break
        text = shorter
    return text


def _once(text: str) -> str:
    """Takes one layer off."""
    text = _without_signs(text)
    if found := _LEAD.match(text):
        marks = found[0].count("**") % 2  # "**Answer: 58**": the bold type began before the phrase
        return text[found.end() :].removesuffix("**" if marks else "")
    if text.endswith((".", ",", ";", "。")) and not text.endswith("..."):
        text = text[:-1].rstrip()
    if found := _FENCE.fullmatch(text) or _MARKUP.fullmatch(text):
        return found[2]
    if len(text) > 2 and _is_quote(text[0]) and _is_quote(text[-1]) and not {text[0], text[-1]} & set(text[1:-1]):
        return text[1:-1]
    for left, right in _PAIRS:
        inner = text[len(left) : len(text) - len(right)]
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and left not in inner:
            if left == "$" and inner.endswith("\\"):
                continue  # an escaped dollar sign is a currency
            return inner
    if (opened := _TYPEFACE.match(text)) and closing(text, opened.end() - 1) == len(text) - 1:
        return text[opened.end() : -1]
    return _last_box(text)


def _without_signs(text: str) -> str:
    """Takes ornaments off the ends: emoji (with what colours them), "#### ", a bullet."""
    start, end = 0, len(text)
    while start < end and _is_ornament(text[start]):
        start += 1
    while end > start and _is_ornament(text[end - 1]):
        end -= 1
    return _HEADING.sub("", text[start:end].strip())


def _is_ornament(character: str) -> bool:
    """Says whether a character is an emoji or part of one; a sign that stands for letters (℃) or degrees (°) is not."""
    if ord(character) < 0x2000:
        return False
    return unicodedata.category(character) in {"So", "Sk"} and unicodedata.normalize("NFKC", character) == character


def _is_quote(character: str) -> bool:
    """Says whether a character is a quotation mark of any language."""
    name = unicodedata.name(character, "")
    return character == "'" or "QUOTATION MARK" in name or "CORNER BRACKET" in name


def _last_box(text: str) -> str:
    r"""Returns the content of the last \boxed or \fbox, or the text itself if there is none."""
    start = max(text.rfind(r"\boxed"), text.rfind(r"\fbox"))
    if start < 0:
        return text
    rest = text[start:].split("box", 1)[1].removeprefix("ed").lstrip()
    if not rest.startswith("{"):
        return rest
    end = closing(rest, 0)
    return rest[1:end] if end > 0 else rest[1:]


def closing(text: str, start: int) -> int:
    """Returns where the bracket that opens at `start` closes, -1 if it never does.

    Round and square brackets may be mixed, as in the half-open interval (0, 1].
    """
    depth, brace = 0, text[start] == "{"
    opening, ending = ("{", "}") if brace else ("([", ")]")
    for i in range(start, len(text)):
        if brace and i > start and text[i - 1] == "\\":
            continue  # an escaped brace is an ordinary sign
        if text[i] in opening:
            depth += 1
        elif text[i] in ending:
            depth -= 1
            if depth == 0:
                return i
    return -1
