"""JSON function calls in `<tool_call>`, as Hermes and Qwen write them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import unknown_name
from ..tools.spec import ToolSpec
from .actions import Action, Answer, Mistake
from .reading import QUOTED, Unreadable, as_call, behind_space, call_in, plain, read_json, written
from .thoughts import END_OF_THINK, THINK, thought_end

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_MARK = re.compile("<(/?)(tool_call|think)>")
_SHAPE = '{"name": "…", "arguments": {…}}'


@dataclass(frozen=True)
class JsonDialect:
    r"""JSON function calls in `<tool_call>`; plain text is the answer.

    A call is one JSON object: it ends where the object ends, so its strings may contain any mark; `<` may be written
    `\u003c`, for engines that stop at the first `</tool_call>`. Thoughts in `<think>` are left out; so is everything
    before an unmatched `</think>` outside a call: the chat template opened that thought.

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
        at = thought_end(text, _MARK)
        while (mark := _MARK.search(text, at)) is not None:
            said.append(text[at : mark.start()])
            at = mark.end()
            if mark[0] == THINK:
                end = text.find(END_OF_THINK, at)
                if end < 0:
                    return _answer(said, unfinished=True)
                at = end + len(END_OF_THINK)
            elif mark[0] == END_OF_THINK:
                said.clear()
            elif mark[0] == _CLOSE:
                return Mistake("format", f"{_CLOSE} closes nothing: write {_OPEN} before it.")
            else:
                return self._call(text, at)
        return _answer([*said, text[at:]])

    def _call(self, text: str, start: int) -> Action:
        """Returns the call whose JSON begins at `start`."""
        found = read_json(text, start, _CLOSE)
        if isinstance(found, Unreadable):
            return _no_object(text, start, f"here {found.why}", unfinished=found.unfinished)
        call, end = found
        if not text.startswith(_CLOSE, at := behind_space(text, end)):
            rest = text[at:].partition(_CLOSE)[0]
            more = f"here its object is followed by: {rest[:QUOTED]}" if rest else ""
            return _no_object(text, at, more, unfinished=not rest)
        if not isinstance(call, dict):
            return _no_object(text, start, "here is another value")
        if not isinstance(call.get("name"), str):
            return _no_object(text, start, 'here its "name" is not a string')
        spec = self._by_name.get(call["name"])
        if spec is None:
            return Mistake("call", plain(str(unknown_name("tool", call["name"][:60], self._by_name))))
        arguments = call.get("arguments", {})
        action = call_in(spec, arguments) if isinstance(arguments, str) else as_call(spec, arguments)
        if isinstance(action, Mistake) and "arguments" not in call and len(call) > 1:
            return Mistake("call", f'The arguments of a call are called "arguments": {_SHAPE}.')
        return action

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


def _no_object(text: str, start: int, why: str, *, unfinished: bool = False) -> Mistake:
    """Returns the mistake in a call that should be closed somewhere after `start`."""
    why = plain(why)
    if text.find(_CLOSE, start) < 0:
        why = f" Its object is wrong, too: {why.removeprefix('here ')}." if why else ""
        return Mistake("format", f"{_OPEN} is not closed: end it with {_CLOSE}.{why}", unfinished)
    return Mistake("format", f"A call must be a JSON object: {_SHAPE}; {why}.", unfinished)


def _answer(said: list[str], *, unfinished: bool = False) -> Action:
    body = "".join(said).strip()
    if body:
        return Answer(body)
    return Mistake("format", "The message is empty: call a tool, or write the final answer.", unfinished)
