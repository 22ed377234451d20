"""How a model's own template writes a tool call, and its translation into the environment's JSON dialect.

The environment knows nothing about models, and what a model sampled is never changed: only the text that is handed to
the environment is translated; tokens and the tree's texts stay the model's own.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from arpo_envs.errors import unknown_name

from .template import QUESTION, ChatTemplate, user


class CallFormat(Protocol):
    """One family's way of writing calls."""

    @property
    def name(self) -> str:
        """The format's name."""
        ...

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call as the template does."""
        ...

    def to_dialect(self, text: str) -> str:
        """Translates an action of the model into the environment's JSON dialect."""
        ...


@dataclass(frozen=True)
class Hermes:
    """`<tool_call>` around `name` and `arguments`, as Hermes and Qwen write it: the JSON dialect itself."""

    name: str = "hermes"

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call on separate lines; see `CallFormat.call`.

        >>> print(Hermes().call("search", {"query": "Köln"}))
        <tool_call>
        {"name": "search", "arguments": {"query": "Köln"}}
        </tool_call>
        """
        body = json.dumps({"name": tool, "arguments": dict(arguments)}, ensure_ascii=False)
        return f"<tool_call>\n{body}\n</tool_call>"

    def to_dialect(self, text: str) -> str:
        """Returns the text as it is."""
        return text


_CALL = re.compile(r'<tool_call>|\{\s*+"(?:name"|type"\s*+:\s*+"function")')
_DECODER = json.JSONDecoder(strict=False)
"""Strings may contain raw line breaks, as in the dialect itself."""


@dataclass(frozen=True)
class Llama3:
    """A bare JSON object of `name` and `parameters`, as Llama 3.1 and 3.2 write it; the turn ends with it."""

    name: str = "llama3"

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call; see `CallFormat.call`.

        >>> print(Llama3().call("search", {"query": "Köln"}))
        {"name": "search", "parameters": {"query": "Köln"}}
        """
        return json.dumps({"name": tool, "parameters": dict(arguments)}, ensure_ascii=False)

    def to_dialect(self, text: str) -> str:
        """Puts every JSON object that begins like a call into `<tool_call>`; broken JSON too, as it was meant as one.

        The dialect decides which of them were only mentioned in a thought; what is already in `<tool_call>` is left alone.

        >>> Llama3().to_dialect('{"name": "search", "parameters": {"query": "Bonn"}}')
        '<tool_call>{"name": "search", "arguments": {"query": "Bonn"}}</tool_call>'
        >>> Llama3().to_dialect("Bonn")
        'Bonn'
        """
        parts, at = [], 0
        while (found := _CALL.search(text, at)) is not None:
            start, marked = found.start(), found[0] == "<tool_call>"
            call = None if marked else _translated(text, start)
            parts.append(text[at:start])
            if call is not None:
                parts.append(f"<tool_call>{call[0]}</tool_call>")
                at = call[1]
            elif (thought := text.rfind("</think>", start)) >= 0:
                parts.append(text[start:thought])
                at = thought
            else:
                parts.append(text[start:] if marked else f"<tool_call>{text[start:]}</tool_call>")
                at = len(text)
        return "".join([*parts, text[at:]])


def _translated(text: str, start: int) -> tuple[str, int] | None:
    """Returns the call that begins at `start` in the dialect's JSON, and where it ends; None if it is broken."""
    try:
        call, end = _DECODER.raw_decode(text, start)
        if "parameters" in call:
            call = {"name": call.get("name"), "arguments": call["parameters"]}
        # escapes lone surrogates, which the dialect then repairs, and, as in the dialect, whatever looks like a mark
        return json.dumps(call).replace("<", "\\u003c"), end
    except (ValueError, RecursionError):
        return None


HERMES, LLAMA3 = Hermes(), Llama3()
_FORMATS: Mapping[str, CallFormat] = {known.name: known for known in (HERMES, LLAMA3)}


def named_format(name: str) -> CallFormat:
    """Returns the format of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _FORMATS:
        raise unknown_name("call format", name, _FORMATS)
    return _FORMATS[name]


def native_format(template: ChatTemplate) -> CallFormat | None:
    """Returns the format in which a template writes calls; None if it writes none, or uses an unknown format."""
    if not template.takes_tools:
        return None
    arguments = {"query": "DUMMYVALUE"}
    function = {"name": "dummylookup", "arguments": arguments}
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "id": "dummy0001", "function": function}],
    }
    text = template.render([user(QUESTION), message], prompt=False, tools=template.tools)
    if text is None:
        return None
    written = text.partition(QUESTION)[2]
    return next((known for known in _FORMATS.values() if known.call("dummylookup", arguments) in written), None)
