"""How a tool call is written in text: ARPO's tags, or JSON function calls, behind one interface.

A model's mistake is a value (`Mistake`), never an exception. Parsing is one linear scan, because the
text is written by a model and may be long and hostile.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

from .arguments import arguments_in, described, example
from .errors import unknown_name
from .tools import ToolSpec, complaint


@dataclass(frozen=True, slots=True)
class Call:
    """The model calls a tool."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The model answers and so ends the episode."""

    text: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """The model wrote neither; `text` tells it what to do.

    `kind` is "format" for text that is not an action at all, which spoils the format reward, and
    "call" for a well-formed call that cannot be made (unknown tool, empty or wrong arguments).
    """

    kind: Literal["format", "call"]
    text: str


Action = Call | Answer | Mistake

RESERVED = frozenset({"answer", "think", "result", "tool_call", "tool_response"})
"""Names of tags with a meaning of their own, which no tool may have."""


@runtime_checkable
class Dialect(Protocol):
    """One way of writing tool calls, for a fixed set of tools."""

    @property
    def name(self) -> str:
        """The name by which `make_dialect` knows it."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings after which an action is complete; they belong to the action."""
        ...

    def instructions(self) -> str:
        """Tells a model how to call these tools and how to answer."""
        ...

    def parse(self, text: str) -> Action:
        """Reads one action of the model; what follows the first complete action is ignored."""
        ...

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call, as a perfect model would."""
        ...

    def answer(self, text: str) -> str:
        """Writes an answer, as a perfect model would."""
        ...

    def result(self, text: str, *, trusted: bool = False) -> str:
        """Wraps a text for the model: a tool's is neutralised, this package's own (`trusted`) may name the marks."""
        ...

    def neutralise(self, text: str) -> str:
        """Makes sure that no text from outside can look like this dialect's own marks."""
        ...


@dataclass(frozen=True)
class TagDialect:
    """ARPO's tags: `<search>query</search>`, `<answer>…</answer>`, results in `<result>…</result>`.

    A tag's body fills the tool's single required string parameter; a tool without such a parameter
    takes a JSON object as its body, and one with further parameters may. Reasoning may stand anywhere
    before the tag, in `<think>` or bare.

    Args:
        specs: the tools that may be called.
    """

    specs: tuple[ToolSpec, ...]
    name: str = field(default="tags", init=False)

    @cached_property
    def _by_name(self) -> dict[str, ToolSpec]:
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def _mark(self) -> re.Pattern[str]:
        names = [re.escape(name) for name in (*self._by_name, "answer", "think", "result")]
        return re.compile(rf"<(/?)({'|'.join(names)})>")

    @cached_property
    def _foreign(self) -> re.Pattern[str]:
        names = [re.escape(name) for name in (*self._by_name, "answer", "think", "result")]
        # possessive: `<` followed by a megabyte of spaces must not be tried in every split
        return re.compile(rf"<\s*+(/?)\s*+({'|'.join(names)})\s*+>", re.IGNORECASE)

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """The closing tags of all tools and of the answer."""
        return tuple(f"</{name}>" for name in (*self._by_name, "answer"))

    def instructions(self) -> str:
        """Tells a model how to call these tools and how to answer."""
        lines = ["You may think inside <think> and </think>. Then do one of the following:"]
        for spec in self.specs:
            lines += self._explained(spec)
        lines.append("- <answer>your final answer</answer>: answers the question and ends the conversation.")
        return "\n".join(lines)

    @staticmethod
    def _explained(spec: ToolSpec) -> list[str]:
        arguments = described(spec)
        body = spec.text_parameter or (example(spec) if arguments else "")
        line = f"- <{spec.name}>{body}</{spec.name}>: {spec.description} The result comes back in <result>."
        if spec.text_parameter is None and arguments:
            line += " Its arguments are a JSON object."
        elif len(arguments) > 1:
            more = f"<{spec.name}>{example(spec, optional=True)}</{spec.name}>"
            line += f" With more arguments, write a JSON object: {more}."
        else:
            return [line]
        return [line, *(f"  - {argument}" for argument in arguments)]

    def parse(self, text: str) -> Action:
        """Reads one action; see `Dialect.parse`.

        >>> from arpo_envs.tools.search import SPEC
        >>> TagDialect((SPEC,)).parse("<think>where?</think><search> Bordeaux </search>")
        Call(tool='search', arguments={'query': 'Bordeaux'})
        """
        at = 0
        while True:
            mark = self._mark.search(text, at)
            if mark is None:
                return self._nothing_found(text)
            closing, name = mark.groups()
            if closing and name == "think" and at == 0:  # the chat template opened it in the prompt
                at = mark.end()
                continue
            if closing:
                return Mistake("format", f"</{name}> closes nothing: write <{name}> before it.")
            if name == "result":
                return Mistake("format", "Only the environment writes <result>. Call a tool, or write <answer>…</answer>.")
            end = text.find(f"</{name}>", mark.end())
            if end < 0:
                return Mistake("format", f"<{name}> is not closed: end it with </{name}>.")
            if name != "think":
                return self._action(name, text[mark.end() : end].strip())
            at = end + len("</think>")

    def _action(self, name: str, body: str) -> Action:
        if name == "answer":
            return Answer(body) if body else Mistake("call", "The answer is empty: write <answer>your final answer</answer>.")
        spec = self._by_name[name]
        if spec.text_parameter is not None:
            if not body:
                return Mistake("call", f"The call is empty: write <{name}>{spec.text_parameter}</{name}>.")
            if arguments_in(spec, body) is not None:
                return _json_call(spec, body)
            return Call(name, {spec.text_parameter: body})
        return _json_call(spec, body or "{}")

    def _nothing_found(self, text: str) -> Mistake:
        known = list(self._by_name)
        ways = ", ".join(f"<{name}>…</{name}>" for name in known)
        other = re.search(r"<([A-Za-z_]\w{0,40})>", text)
        if other is not None:
            close = get_close_matches(other[1].lower(), [*known, "answer"], n=1, cutoff=0.5)
            hint = f" Did you mean <{close[0]}>?" if close else ""
            return Mistake("call", f"There is no tool <{other[1]}>. Use {ways} or <answer>…</answer>.{hint}")
        return Mistake("format", f"No tool call and no answer found. Write {ways} or <answer>…</answer>.")

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call; the body is the single text argument, or JSON."""
        spec = self._by_name[tool]
        text = str(arguments[spec.text_parameter]) if spec.text_parameter is not None and len(arguments) == 1 else None
        if text is None or arguments_in(spec, text) is not None:
            text = json.dumps(dict(arguments), ensure_ascii=False)
        return f"<{tool}>{text}</{tool}>"

    def answer(self, text: str) -> str:
        """Writes an answer."""
        return f"<answer>{text}</answer>"

    def result(self, text: str, *, trusted: bool = False) -> str:
        """Wraps a text in `<result>`; see `Dialect.result`."""
        return f"<result>{text if trusted else self.neutralise(text)}</result>"

    def neutralise(self, text: str) -> str:
        """Turns this dialect's tags in outside text into square brackets: `[answer]`."""
        return self._foreign.sub(r"[\1\2]", text) if "<" in text else text


_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class JsonDialect:
    """JSON function calls in `<tool_call>`, as Hermes and Qwen write them; plain text is the answer.

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
        lines.append(f'To call one, write {_OPEN}{{"name": "…", "arguments": {{…}}}}{_CLOSE} and stop.')
        lines.append("To answer the question, write only the final answer, without a call.")
        return "\n".join(lines)

    def parse(self, text: str) -> Action:
        """Reads one action; see `Dialect.parse`.

        >>> from arpo_envs.tools.search import SPEC
        >>> JsonDialect((SPEC,)).parse("Paris")
        Answer(text='Paris')
        """
        text = _without_thinking(text)
        start = text.find(_OPEN)
        if start < 0:
            if _CLOSE in text:
                return Mistake("format", f"{_CLOSE} closes nothing: write {_OPEN} before it.")
            body = text.strip()
            return Answer(body) if body else Mistake("format", "The message is empty: call a tool, or write the final answer.")
        end = text.find(_CLOSE, start)
        if end < 0:
            return Mistake("format", f"{_OPEN} is not closed: end it with {_CLOSE}.")
        return self._call(text[start + len(_OPEN) : end])

    def _call(self, body: str) -> Action:
        call = _json_object(body)
        if call is None or not isinstance(call.get("name"), str):
            return Mistake("format", 'A call must be a JSON object: {"name": "…", "arguments": {…}}.')
        spec = self._by_name.get(call["name"])
        if spec is None:
            error = unknown_name("tool", call["name"][:60], self._by_name)
            return Mistake("call", _plain(str(error)))
        arguments = call.get("arguments", {})
        return _json_call(spec, arguments if isinstance(arguments, str) else json.dumps(arguments))

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Writes a call; `<` is escaped, so that no argument can look like the end of the call."""
        body = json.dumps({"name": tool, "arguments": dict(arguments)}, ensure_ascii=False)
        return _OPEN + body.replace("<", "\\u003c") + _CLOSE

    def answer(self, text: str) -> str:
        """An answer is the text itself."""
        return text

    def result(self, text: str, *, trusted: bool = False) -> str:
        """Wraps a text in `<tool_response>`; see `Dialect.result`."""
        return f"<tool_response>{text if trusted else self.neutralise(text)}</tool_response>"

    def neutralise(self, text: str) -> str:
        """Turns this dialect's tags in outside text into square brackets: `[tool_call]`."""
        if "<" not in text:
            return text
        return re.sub(r"<\s*+(/?)\s*+(tool_call|tool_response|think)\s*+>", r"[\1\2]", text, flags=re.IGNORECASE)


def _without_thinking(text: str) -> str:
    """Removes `<think>` blocks in one pass; an unclosed one hides all that follows it.

    A closing tag alone ends a block that the chat template opened in the prompt.
    """
    ahead, closed, rest = text.partition("</think>")
    if closed and "<think>" not in ahead:
        text = rest
    parts, at = [], 0
    while (start := text.find("<think>", at)) >= 0:
        parts.append(text[at:start])
        end = text.find("</think>", start)
        if end < 0:
            return "".join(parts)
        at = end + len("</think>")
    return "".join(parts) + text[at:]


def _json_object(body: str) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
        if "\\u" in body:  # an escape may be half of a character, which no tool could encode
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json_call(spec: ToolSpec, body: str) -> Action:
    arguments = _json_object(body)
    if arguments is None:
        return Mistake("call", _plain(f"The arguments of {spec.name} must be a JSON object, such as {example(spec)}."))
    wrong = complaint(spec, arguments)
    if wrong is None and spec.text_parameter is not None and not arguments[spec.text_parameter].strip():
        wrong = f"The argument {spec.text_parameter!r} of {spec.name} is empty."
    return Mistake("call", _plain(wrong)) if wrong is not None else Call(spec.name, arguments)


def _plain(text: str) -> str:
    """Removes angle brackets from a message that quotes names the model made up."""
    return text.replace("<", "[").replace(">", "]")


def make_dialect(name: str, specs: Sequence[ToolSpec]) -> Dialect:
    """Returns the dialect of that name ("tags" or "json") for these tools.

    Raises:
        ConfigError: no dialect has that name.
    """
    if name == "tags":
        return TagDialect(tuple(specs))
    if name == "json":
        return JsonDialect(tuple(specs))
    raise unknown_name("dialect", name, ["tags", "json"])
