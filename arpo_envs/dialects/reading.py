"""Reading JSON that a model wrote: what it says, or where it goes wrong and what should be there."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ..arguments import example
from ..tools import complaint
from ..tools.spec import ToolSpec
from .actions import Action, Call, Mistake

QUOTED = 24
"""Characters of a model's text that a message quotes."""


_SPACE = re.compile(r"\s*+")


@dataclass(frozen=True)
class Unreadable:
    """Why a string is not valid JSON, in words for the model.

    Args:
        why: what was found, where, and what was expected.
        unfinished: whether more text could make it JSON.
    """

    why: str
    unfinished: bool = False


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _fraction(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # JSON has no infinity
        raise ValueError(f"{text[:QUOTED]} is too large a number")
    return value


def _whole(text: str) -> int:
    _fraction(text)  # or it would overflow where a tool computes with it
    return int(text)


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_fraction, parse_int=_whole)
"""A string may contain unescaped line breaks: models write code that way."""


def read_json(text: str, start: int = 0, close: str = "") -> tuple[Any, int] | Unreadable:
    """Returns the JSON value that begins at `start`, and where it ends; what follows is ignored.

    Of two values with the same name the last one counts, as in Python.

    Args:
        text: what a model wrote.
        start: where the value begins; white space may come first.
        close: what should follow the value, and is not quoted with it.

    >>> read_json('{"a": 1} and more')
    ({'a': 1}, 8)
    >>> read_json('{"a": 1,}').why
    'no comma may stand before it, at character 9: }'
    >>> read_json("Paris").why
    'it does not begin with {'
    """
    start = behind_space(text, start)
    try:
        value, end = _DECODER.raw_decode(text, start)
        if "\\u" in text[start:end]:  # an escape may be half of a character, which no tool could encode
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        unfinished = error.msg.startswith("Unterminated") or not text[error.pos :].strip()
        return Unreadable(plain(_explained(error, text, start, close)), unfinished)
    except RecursionError:
        return Unreadable("it is nested too deeply")
    except ValueError as error:  # NaN, or a number that is too large
        return Unreadable(str(error))
    return value, end


def json_end(text: str, start: int, close: str) -> int:
    """Returns where the JSON object that begins at `start` is followed by `close`; -1 if there is no such object.

    >>> json_end('{"a": "</x>"} </x>', 0, "</x>")
    14
    """
    start = behind_space(text, start)
    if not text.startswith("{", start):
        return -1
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return -1
    end = behind_space(text, end)
    return end if text.startswith(close, end) else -1


def behind_space(text: str, at: int) -> int:
    """Returns the index of the first character at or after `at` that is not white space."""
    if not text[at : at + 1].isspace():  # the usual case, for which no pattern is needed
        return at
    space = _SPACE.match(text, at)
    return space.end() if space is not None else at


_EXPECTED = {
    "Expecting property name": "the name of an argument in double quotes was expected",
    "Expecting value": "a value was expected (a string in double quotes, a number, true, false, null, a list or an object)",
    "Expecting ',' delimiter": 'a comma or the end was expected (a quotation mark inside a string is written \\")',
    "Expecting ':' delimiter": "a colon was expected after the name",
    "Unterminated string": 'the string that begins there is not closed by " (in it, write \\u003c for an angle bracket)',
    "Invalid \\escape": "no such escape exists (a backslash is written \\\\)",
    "Invalid \\uXXXX": "\\u must be followed by four hexadecimal digits",
}
_NUMBER = "a number is written 5, -5, 0.5 or 1e5"


def _explained(error: json.JSONDecodeError, text: str, start: int, close: str) -> str:
    """Returns what was expected, where, and what was found there."""
    at = error.pos
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 points to the comma, older ones to what follows
        at = behind_space(text, at + 1)
    until = text.find(close, at) if close else -1
    rest = text[at:until] if until >= 0 else text[at:]
    if at == start and rest[:1] not in {"{", "["}:
        return "it does not begin with {" if rest.strip() else "it is empty"
    if not rest.strip():
        return "it ends too early: close every { and ["
    expected = _instead(error.msg, rest[:QUOTED], text[:at].rstrip()[-1:])
    expected = expected or next((words for message, words in _EXPECTED.items() if error.msg.startswith(message)), error.msg)
    return f"{expected}, at character {at - start + 1}: {rest[:QUOTED]}{'…' if len(rest) > QUOTED else ''}"


def _instead(message: str, found: str, before: str) -> str:
    """Returns what to write instead of a habit from other languages; "" if it is not a well-known one."""
    if message.startswith(("Unterminated", "Invalid")):
        return ""
    if found[0] in "}]" and before == ",":
        return "no comma may stand before it"
    if found.startswith(("//", "/*", "#")):
        return "JSON has no comments"
    if found[0] in "“”„":
        return 'write straight double quotes, "'
    if message.startswith("Expecting ','"):
        return _NUMBER if before.isdigit() and found[0] not in "\"'{[" else ""
    if found[0] == "'":
        return "JSON has no single quotes: write double quotes"
    if message.startswith("Expecting value"):
        if found.startswith(("True", "False", "None")):
            return "write true, false and null in lower case"
        if found[0] in "+.":
            return _NUMBER
        if found[0].isalpha():
            return "a string needs double quotes"
    return ""


def as_call(spec: ToolSpec, arguments: Any) -> Action:
    """Returns the call with these arguments, or the mistake in them."""
    if not isinstance(arguments, dict):
        return Mistake("call", plain(f"The arguments of {spec.name} must be a JSON object, such as {example(spec)}."))
    wrong = complaint(spec, arguments)
    if wrong is None and spec.text_parameter is not None and not arguments[spec.text_parameter].strip():
        wrong = f"The argument {spec.text_parameter!r} of {spec.name} is empty."
    return Mistake("call", plain(wrong)) if wrong is not None else Call(spec.name, arguments)


def call_in(spec: ToolSpec, body: str) -> Action:
    """Returns the call whose arguments a string holds as one JSON object, or the mistake in it."""
    found = read_json(body)
    shape = f"The arguments of {spec.name} must be a JSON object, such as {example(spec)}"
    if isinstance(found, Unreadable):
        why = f"; here {found.why}" if body.lstrip().startswith("{") else ""
        return Mistake("call", plain(f"{shape}{why}."))
    value, end = found
    rest = body[end:].strip()
    if rest:
        return Mistake("call", plain(f"{shape}; here the object is followed by: {rest[:QUOTED]}"))
    return as_call(spec, value)


def written(value: Mapping[str, Any]) -> str:
    r"""Returns arguments as JSON; `<` is escaped, so that no string in them can look like a mark.

    >>> written({"code": "print('</python>')"})
    '{"code": "print(\'\\u003c/python>\')"}'
    """
    return json.dumps(dict(value), ensure_ascii=False).replace("<", "\\u003c")


def plain(text: str) -> str:
    """Removes angle brackets from a message that quotes what the model made up."""
    return text.replace("<", "[").replace(">", "]")
