"""JSON function calls in `<tool_call>`, as Hermes and Qwen write them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import unknown_name
from ..tools import ToolSpec
from .actions import Action, Answer, Mistake
from .reading import QUOTED, Unreadable, as_call, call_in, plain, read_json, written

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_THINK, _END_OF_THINK = "<think>", "</think>"
_MARK = re.compile("</?(?:tool_call|think)>")
_SHAPE = '{"name": "…", "arguments": {…}}'


@dataclass(frozen=True)
class JsonDialect:
    r"""JSON function calls in `<tool_call>`; plain text is the answer.

    A call is one JSON object: it ends where the object ends, so that its texts may hold any mark; `<` may be written
    `\u003c`, for engines that stop at the first `</tool_call>`. Thoughts in `<think>` are left out; a `</think>` that closes
    nothing ends a thought which the chat template opened.

    Args:
        specs: the tools that may be called.
    """

    specs: tuple[ToolSpec, ...]
    name: str = field(default="json", init=False)

    @cached_property
    def _by_name(self) -> dict[str, ToolSpec]:
        return {spec.name: spec for spec in self.specs}

    @property
    def stop(self) -> tuple[str, ...]:
        """The end of a call; an answer ends with the model's own end of turn."""
        return (_CLOSE,)

    def instructions(self) -> str:
        """Tells a model how to call these tools and how to answer."""
        lines = ["You may call these tools:"]
        lines += [json.dumps(spec.function(), ensure_ascii=False) for spec in self.specs]
        lines.append(f"To call one, write {_OPEN}{_SHAPE}{_CLOSE} and stop.")
        lines.append("To answer the question, write only the final answer, without a call.")
        return "\n".join(lines)

    def parse(self, text: str) -> Action:
        """Reads one action; see `Dialect.parse`.

        >>> from arpo_envs.tools.search import SPEC
        >>> JsonDialect((SPEC,)).parse("Paris")
        Answer(text='Paris')
        """
        said: list[str] = []  # outside thoughts
        at, in_thought = 0, True  # the chat template may have opened one
        while (mark := _MARK.search(text, at)) is not None:
            said.append(text[at : mark.start()])
            at = mark.end()
            if mark[0] == _THINK:
                end = text.find(_END_OF_THINK, at)
                if end < 0:
                    return _answer(said)
                at = end + len(_END_OF_THINK)
            elif mark[0] == _END_OF_THINK:
                said.clear()
                in_thought = False
            elif mark[0] == _CLOSE:
                return Mistake("format", f"{_CLOSE} closes nothing: write {_OPEN} before it.")
            else:
                action = self._call(text, at)
                if not isinstance(action, Unreadable):
                    return action
                thought = text.find(_END_OF_THINK, at) if in_thought else -1
                if thought < 0:
                    return Mistake("format", action.why)
                said.clear()
                at, in_thought = thought + len(_END_OF_THINK), False  # the call was only spoken of
        return _answer([*said, text[at:]])

    def _call(self, text: str, start: int) -> Action | Unreadable:
        """Returns the call whose JSON begins at `start`; `Unreadable` if it is none, and so may be part of a thought."""
        closed = text.find(_CLOSE, start) >= 0
        found = read_json(text, start)
        if isinstance(found, Unreadable):
            return Unreadable(_no_object(found.why) if closed else _not_closed(found.why))
        call, end = found
        rest = text[end:].lstrip()
        if not rest.startswith(_CLOSE):
            more = f"after the end of its object stands: {rest[:QUOTED]}"
            return Unreadable(_no_object(more) if closed else _not_closed(more if rest else ""))
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return Unreadable(_no_object(""))
        spec = self._by_name.get(call["name"])
        if spec is None:
            return Mistake("call", plain(str(unknown_name("tool", call["name"][:60], self._by_name))))
        arguments = call.get("arguments", {})
        return call_in(spec, arguments) if isinstance(arguments, str) else as_call(spec, arguments)

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call; `<` is escaped, so that no argument can look like the end of the call."""
        return _OPEN + written({"name": tool, "arguments": dict(arguments)}) + _CLOSE

    def answer(self, text: str) -> str:
        """An answer is the text itself; marks in it become square brackets."""
        return self.neutralise(text)

    def result(self, text: str, *, trusted: bool = False) -> str:
        """Wraps a text in `<tool_response>`; see `Dialect.result`."""
        return f"<tool_response>{text if trusted else self.neutralise(text)}</tool_response>"

    def neutralise(self, text: str) -> str:
        """Turns this dialect's tags in outside text into square brackets: `[tool_call]`."""
        if "<" not in text:
            return text
        return re.sub(r"<\s*+(/?)\s*+(tool_call|tool_response|think)\s*+>", r"[\1\2]", text, flags=re.IGNORECASE)


def _no_object(why: str) -> str:
    return f"A call must be a JSON object: {_SHAPE}{'; here ' if why else '.'}{why}"


def _not_closed(why: str) -> str:
    return f"{_OPEN} is not closed: end it with {_CLOSE}.{' Its object is not right, either: ' if why else ''}{why}"


def _answer(said: list[str]) -> Action:
    body = "".join(said).strip()
    return Answer(body) if body else Mistake("format", "The message is empty: call a tool, or write the final answer.")
