"""ARPO's tags: `<search>query</search>`, `<answer>…</answer>`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from ..arguments import arguments_in, described, example
from ..tools import ToolSpec
from .actions import Action, Answer, Call, Mistake
from .reading import as_call, call_in, written

_THINK, _END_OF_THINK = "<think>", "</think>"


@dataclass(frozen=True)
class TagDialect:
    r"""ARPO's tags: `<search>query</search>`, `<answer>…</answer>`, results in `<result>…</result>`.

    A tag's body fills the tool's single required string parameter, and ends at the first closing tag; a tool without such a
    parameter takes a JSON object as its body, and any other tool may. In JSON, `<` may be written `\u003c`: so a body can hold
    its own closing tag. Reasoning may stand anywhere before the tag, in `<think>` or bare; a `</think>` that closes nothing
    ends a thought which the chat template opened, unless it stands in the body of a call.

    Args:
        specs: the tools that may be called.
    """

    specs: tuple[ToolSpec, ...]
    name: str = field(default="tags", init=False)

    @cached_property
    def _by_name(self) -> dict[str, ToolSpec]:
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def _names(self) -> str:
        return "|".join(re.escape(name) for name in (*self._by_name, "answer", "think", "result"))

    @cached_property
    def _mark(self) -> re.Pattern[str]:
        return re.compile(rf"<(/?)({self._names})>")

    @cached_property
    def _foreign(self) -> re.Pattern[str]:
        # possessive: `<` followed by a megabyte of spaces must not be tried in every split
        return re.compile(rf"<\s*+(/?)\s*+({self._names})\s*+>", re.IGNORECASE)

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
        >>> TagDialect((SPEC,)).parse("a <search> would do.</think><search>Bordeaux</search>")
        Call(tool='search', arguments={'query': 'Bordeaux'})
        """
        at, in_thought = 0, True  # the chat template may have opened one
        while True:
            mark = self._mark.search(text, at)
            if mark is None:
                return self._nothing_found(text)
            closing, name = mark.groups()
            if name == "think":
                in_thought = in_thought and not closing
                end = mark.start() if closing else text.find(_END_OF_THINK, mark.end())
                if end < 0:
                    return Mistake("format", f"{_THINK} is not closed: end it with {_END_OF_THINK}.")
                at = end + len(_END_OF_THINK)
                continue
            if closing:
                return Mistake("format", f"</{name}> closes nothing: write <{name}> before it.")
            if name == "result":
                return Mistake("format", "Only the environment writes <result>. Call a tool, or write <answer>…</answer>.")
            end = text.find(f"</{name}>", mark.end())
            thought = self._end_of_thought(text, mark.end(), end) if in_thought else None
            if thought is not None:
                at, in_thought = thought, False
            elif end < 0:
                return Mistake("format", f"<{name}> is not closed: end it with </{name}>.")
            else:
                return self._action(name, text[mark.end() : end].strip())

    def _end_of_thought(self, text: str, start: int, end: int) -> int | None:
        """Returns where a thought ends that seemed to be a body: behind a `</think>` that nothing in it opened.

        It is a body all the same if it is closed, at `end`, and no other action is begun between the `</think>` and there.
        """
        at, stop = start, end if end >= 0 else len(text)
        while (closed := text.find(_END_OF_THINK, at, stop)) >= 0:
            opened = text.find(_THINK, at, closed)
            if opened < 0:
                break
            at = closed + len(_END_OF_THINK)
        else:
            return None
        behind = closed + len(_END_OF_THINK)
        begun = any(not mark[1] and mark[2] not in {"think", "result"} for mark in self._mark.finditer(text, behind, stop))
        return behind if end < 0 or begun else None

    def _action(self, name: str, body: str) -> Action:
        if name == "answer":
            return Answer(body) if body else Mistake("call", "The answer is empty: write <answer>your final answer</answer>.")
        spec = self._by_name[name]
        if spec.text_parameter is None:
            return call_in(spec, body or "{}")
        if not body:
            return Mistake("call", f"The call is empty: write <{name}>{spec.text_parameter}</{name}>.")
        arguments = arguments_in(spec, body)
        return as_call(spec, arguments) if arguments is not None else Call(name, {spec.text_parameter: body})

    def _nothing_found(self, text: str) -> Mistake:
        known = list(self._by_name)
        ways = ", ".join(f"<{name}>…</{name}>" for name in known)
        other = re.search(r"<([A-Za-z_]\w{0,40})>", text)
        if other is not None and other[1] != "think":
            close = get_close_matches(other[1].lower(), [*known, "answer"], n=1, cutoff=0.5)
            hint = f" Did you mean <{close[0]}>?" if close else ""
            return Mistake("call", f"There is no tool <{other[1]}>. Use {ways} or <answer>…</answer>.{hint}")
        return Mistake("format", f"No tool call and no answer found. Write {ways} or <answer>…</answer>.")

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        r"""Writes a call; the body is the single text argument, or JSON where that text would not be read back as it is.

        >>> from arpo_envs.tools.search import SPEC
        >>> TagDialect((SPEC,)).call("search", {"query": "what is </search>?"})
        '<search>{"query": "what is \\u003c/search>?"}</search>'
        """
        spec = self._by_name[tool]
        text = arguments.get(spec.text_parameter) if spec.text_parameter is not None and len(arguments) == 1 else None
        if not isinstance(text, str) or text != text.strip() or self._mark.search(text) or arguments_in(spec, text) is not None:
            text = written(arguments)
        return f"<{tool}>{text}</{tool}>"

    def answer(self, text: str) -> str:
        """Writes an answer; tags in it become square brackets."""
        return f"<answer>{self.neutralise(text)}</answer>"

    def result(self, text: str, *, trusted: bool = False) -> str:
        """Wraps a text in `<result>`; see `Dialect.result`."""
        return f"<result>{text if trusted else self.neutralise(text)}</result>"

    def neutralise(self, text: str) -> str:
        """Turns this dialect's tags in outside text into square brackets: `[answer]`."""
        return self._foreign.sub(r"[\1\2]", text) if "<" in text else text
