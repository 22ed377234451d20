"""Conversations from a file, JSON Lines: one demonstration a row, as {"messages": [...]} with OpenAI's roles."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arpo_envs import ConfigError, Dialect, ToolSpec, make_dialect

from .expert import Demonstration

_SHOWN = 5
_ROLES = ("system", "user", "assistant", "tool")


class Conversations(NamedTuple):
    """What a file holds.

    Args:
        shown: its demonstrations.
        malformed: what is wrong with each row that was left out: file, line and reason.
    """

    shown: tuple[Demonstration, ...]
    malformed: tuple[str, ...]


def read_conversations(path: Path, dialect: str, *, skip_malformed: bool = False) -> Conversations:
    """Returns the demonstrations of a file.

    A row begins with the user's question, after a system message or none; then an assistant's message and what it saw take
    turns, and an assistant's message is the last. What it saw is a message of a tool, which is wrapped as the dialect does it,
    or of the user, which stays as it is. A call stands in the assistant's text, or in its "tool_calls"; tools may be
    described in "tools", as OpenAI does it.

    Args:
        path: of the file.
        dialect: "tags" or "json"; the texts are written in it.
        skip_malformed: leave malformed rows out, rather than to refuse the file.

    Raises:
        ConfigError: the file cannot be read or has no usable row, or a row is malformed; the message names up to five of them.
    """
    make_dialect(dialect, ())  # refuses an unknown name
    shown, malformed = [], []
    for number, line in _lines(path):
        try:
            shown.append(_demonstration(line, dialect))
        except _Malformed as error:
            malformed.append(f"{path}, line {number}: {error}")
    if malformed and not skip_malformed:
        raise ConfigError(f"{_listed(path, malformed)}\nMend these rows, or leave them out: --skip-malformed.")
    if not shown:
        raise ConfigError(_listed(path, malformed) if malformed else f"{path} has no rows.")
    return Conversations(tuple(shown), tuple(malformed))


class _Malformed(ValueError):
    """A row is not a demonstration."""


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank, with their numbers."""
    try:
        with path.open("rb") as lines:  # as bytes: a string may contain a line break that only Unicode knows
            yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error


def _demonstration(line: bytes, dialect: str) -> Demonstration:
    """Returns one row as a demonstration.

    Raises:
        _Malformed: it is none.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"it is not JSON ({str(error).partition(':')[0]}).") from error
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        raise _Malformed('expected an object with "messages", a list of objects with a role and a content.')
    tools = _tools(row.get("tools") or ())
    said = [_said(number, message, make_dialect(dialect, tools)) for number, message in enumerate(messages, start=1)]
    instructions = said.pop(0)[1] if said[0][0] == "system" else ""
    roles = [role for role, _ in said]
    _require_turns(roles, len(messages) - len(said))
    texts = [text for _, text in said]
    turns = zip(texts[1::2], [*texts[2::2], ""], strict=True)
    return Demonstration(instructions, texts[0], tuple(turns), tools)


def _said(number: int, message: object, dialect: Dialect) -> tuple[str, str]:
    """Returns a message's role, and its text as it stands in an episode."""
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(message, dict) or role not in _ROLES:
        raise _Malformed(f"message {number} has the role {role!r}; expected one of {', '.join(_ROLES)}.")
    content = message.get("content")
    content = "" if content is None and message.get("tool_calls") else content
    if not isinstance(content, str):
        raise _Malformed(f"message {number} has no text: its content is {type(content).__name__}, not a string.")
    if role == "tool":
        return role, content if content == _wrapped(content, dialect) else dialect.result(content)
    text = content + _called(number, message.get("tool_calls") or [], dialect) if role == "assistant" else content
    if role == "assistant" and not text.strip():
        raise _Malformed(f"message {number} is empty: the assistant says nothing.")
    return role, text


def _wrapped(content: str, dialect: Dialect) -> str | None:
    """Returns a result that stands in the dialect's marks already, None for any other."""
    before, _, after = dialect.result("|", trusted=True).partition("|")
    return content if content.startswith(before) and content.endswith(after) else None


def _called(number: int, calls: object, dialect: Dialect) -> str:
    """Returns the only call of a message, as the dialect writes it; "" for none."""
    if not calls:
        return ""
    if not isinstance(calls, list):
        raise _Malformed(f'message {number}: its "tool_calls" are {type(calls).__name__}, not a list.')
    if len(calls) > 1:
        raise _Malformed(f"message {number} has several tool calls; expected one an action.")
    function = calls[0].get("function") if isinstance(calls[0], dict) else None
    if not isinstance(function, dict):
        raise _Malformed(f'message {number}: its call has no "function", an object with a name and arguments.')
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise _Malformed(f"message {number}: the name of its call is {name!r:.60}, not a string that says something.")
    if "arguments" not in function:
        raise _Malformed(f"message {number}: its call has no arguments.")
    try:
        return dialect.call(name, _arguments(number, function["arguments"]))
    except KeyError as error:
        raise _Malformed(f'message {number}: {name!r} is not described in "tools".') from error


def _arguments(number: int, given: object) -> Mapping[str, Any]:
    """Returns the arguments of a call, an object or one as JSON in a string."""
    try:
        found = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError) as error:
        why = str(error).partition(":")[0]
        raise _Malformed(f"message {number}: the arguments of its call are not an object, and not JSON ({why}).") from error
    if not isinstance(found, dict):
        raise _Malformed(f"message {number}: the arguments of its call are not an object: {found!r:.60}.")
    return found


def _tools(described: object) -> tuple[ToolSpec, ...]:
    found = []
    for tool in described if isinstance(described, Sequence) else ():
        function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise _Malformed('"tools" has an entry without a name.')
        parameters: Any = function.get("parameters") or {}
        if not _is_schema(parameters):
            raise _Malformed(f'"tools": the parameters of {function["name"]!r} are not a JSON schema of an object.')
        found.append(ToolSpec(function["name"], str(function.get("description", "")), parameters))
    return tuple(found)


def _is_schema(parameters: object) -> bool:
    """Whether a value describes the arguments of a call, as far as a dialect reads it."""
    if not isinstance(parameters, Mapping):
        return False
    properties, required = parameters.get("properties", {}), parameters.get("required", [])
    return (
        isinstance(properties, Mapping)
        and all(isinstance(schema, Mapping) for schema in properties.values())
        and isinstance(required, list)
        and all(isinstance(name, str) for name in required)
    )


def _require_turns(roles: Sequence[str], before: int) -> None:
    """Refuses a conversation whose turns are not a question, and then an assistant's and what it saw."""
    for place, role in enumerate(roles):
        wanted = ("user",) if place == 0 else ("assistant",) if place % 2 else ("tool", "user")
        if role not in wanted:
            expected = " or ".join(f"the {one}'s" for one in wanted)
            raise _Malformed(f"message {place + before + 1} is the {role}'s; expected {expected} here.")
    if roles[-1:] != ["assistant"]:
        raise _Malformed("the last message is not the assistant's: there is nothing to learn after it.")


def _listed(path: Path, malformed: Sequence[str]) -> str:
    more = len(malformed) - _SHOWN
    end = f"\n… and {more} more." if more > 0 else ""
    return f"{path}: {len(malformed)} malformed row{'s' if len(malformed) > 1 else ''}.\n" + "\n".join(malformed[:_SHOWN]) + end
