"""Reading JSON that a model wrote: what it says, or where it goes wrong and what should stand there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ..arguments import example
from ..tools import ToolSpec, complaint
from .actions import Action, Call, Mistake

QUOTED = 24
"""Characters of a model's text that a message quotes."""


@dataclass(frozen=True)
class Unreadable:
    """Why a text is no JSON, in words for the model.

    Args:
        why: what stands where, and what was expected.
    """

    why: str


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse)
"""Line breaks may stand in a text as they are: models write code so."""


def read_json(text: str, start: int = 0) -> tuple[Any, int] | Unreadable:
    """Returns the JSON value that begins at `start`, and where it ends; what follows is not looked at.

    Args:
        text: what a model wrote.
        start: where the value begins; white space may come first.

    >>> read_json('{"a": 1} and more')
    ({'a': 1}, 8)
    >>> read_json('{"a": 1,}').why
    'no comma may stand before it, at character 9: }'
    >>> read_json("Paris").why
    'it does not begin with {'
    """
    while start < len(text) and text[start].isspace():
        start += 1
    try:
        value, end = _DECODER.raw_decode(text, start)
        if "\\u" in text[start:end]:  # an escape may be half of a character, which no tool could encode
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        return Unreadable(plain(_explained(error, text, start)))
    except RecursionError:
        return Unreadable("it is nested too deeply")
    except ValueError as error:  # NaN, or a number of thousands of digits
        return Unreadable(str(error).partition(";")[0])
    return value, end


_EXPECTED = {
    "Expecting property name": "the name of an argument in double quotes was expected",
    "Expecting value": "a value was expected (a text in double quotes, a number, true, false, null, a list or an object)",
    "Expecting ',' delimiter": 'a comma or the end was expected (a quotation mark inside a text is written \\")',
    "Expecting ':' delimiter": "a colon was expected after the name",
    "Unterminated string": 'the text that begins there is not closed by " (a mark in it is written \\u003c…>)',
    "Invalid \\escape": "no such escape exists (a backslash is written \\\\)",
    "Invalid \\uXXXX": "\\u must be followed by four hexadecimal digits",
    "Illegal trailing comma": "no comma may stand before the end",
}
_INSTEAD = {
    "'": "single quotes are no JSON: write double quotes",
    "#": "JSON has no comments",
    "/": "JSON has no comments",
    "T": "write true, false and null in small letters",
    "F": "write true, false and null in small letters",
    "N": "write true, false and null in small letters",
    "}": "no comma may stand before it",
    "]": "no comma may stand before it",
}


def _explained(error: json.JSONDecodeError, text: str, start: int) -> str:
    """Returns what was expected, with the place and what stands there."""
    at = error.pos
    found = text[at : at + QUOTED]
    if at == start and found[:1] not in {"{", "["}:
        return "it does not begin with {"
    expected = next((words for message, words in _EXPECTED.items() if error.msg.startswith(message)), error.msg)
    if not error.msg.startswith("Unterminated"):
        if not found:
            return "it ends too early: close every { and ["
        before = text[:at].rstrip()[-1:]
        if found[0] in _INSTEAD and (found[0] not in "}]" or before == ","):
            expected = _INSTEAD[found[0]]
    return f"{expected}, at character {at - start + 1}: {found}{'…' if len(text) > at + QUOTED else ''}"


def as_call(spec: ToolSpec, arguments: Any) -> Action:
    """Returns the call with these arguments, or the mistake in them."""
    if not isinstance(arguments, dict):
        return Mistake("call", plain(f"The arguments of {spec.name} must be a JSON object, such as {example(spec)}."))
    wrong = complaint(spec, arguments)
    if wrong is None and spec.text_parameter is not None and not arguments[spec.text_parameter].strip():
        wrong = f"The argument {spec.text_parameter!r} of {spec.name} is empty."
    return Mistake("call", plain(wrong)) if wrong is not None else Call(spec.name, arguments)


def call_in(spec: ToolSpec, body: str) -> Action:
    """Returns the call whose arguments a text holds as one JSON object, or the mistake in it."""
    found = read_json(body)
    shape = f"The arguments of {spec.name} must be a JSON object, such as {example(spec)}"
    if isinstance(found, Unreadable):
        why = f"; here {found.why}" if body.lstrip().startswith("{") else ""
        return Mistake("call", plain(f"{shape}{why}."))
    value, end = found
    rest = body[end:].strip()
    if rest:
        return Mistake("call", plain(f"{shape}; here, after its end, stands: {rest[:QUOTED]}"))
    return as_call(spec, value)


def written(value: Mapping[str, Any]) -> str:
    r"""Returns arguments as JSON; `<` is escaped, so that no text in them can look like a mark.

    >>> written({"code": "print('</python>')"})
    '{"code": "print(\'\\u003c/python>\')"}'
    """
    return json.dumps(dict(value), ensure_ascii=False).replace("<", "\\u003c")


def plain(text: str) -> str:
    """Removes angle brackets from a message that quotes what the model made up."""
    return text.replace("<", "[").replace(">", "]")
