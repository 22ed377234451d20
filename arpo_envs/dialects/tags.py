"""ARPO's tags: `<search>query</search>`, `<answer>…</answer>`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from ..arguments import arguments_in, described, example
from ..tools.spec import ToolSpec
from .actions import Action, Answer, Call, Mistake
from .reading import Unreadable, behind_space, call_in, json_end, read_json, written
from .thoughts import END_OF_THINK, THINK, thought_end


@dataclass(frozen=True)
class TagDialect:
    r"""ARPO's tags: `<search>query</search>`, `<answer>…</answer>`, results in `<result>…</result>`.

    A tag's body fills the tool's single required string parameter, and ends at the first closing tag; a tool without such a
    parameter takes a JSON object as its body, and any other tool may. A JSON object ends where JSON says; `<` may be written
    `\u003c` in it, for engines that stop at the first closing tag, so a body can contain its own. Reasoning may come anywhere
    before the tag, in `<think>` or bare; everything before an unmatched `</think>` outside a body is a thought that the chat
    template opened.

    Args:
        specs: the tools that may be called.
    """

    specs: tuple[ToolSpec, ...]
    name: str = field(default="tags", init=False)

    @cached_property
    def _by_name(self) -> dict[str, ToolSpec]:
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def _text_parameters(self) -> dict[str, str | None]:
        return {spec.name: spec.text_parameter for spec in self.specs}

    @cached_property
    def _usual(self) -> re.Pattern[str]:
        """Matches what most actions look like, whole: no other `<` in them, so there is nothing to decide."""
        with_text = [re.escape(name) for name, parameter in self._text_parameters.items() if parameter is not None]
        names = "|".join([*with_text, "answer"])
        return re.compile(rf"(?:<think>[^<]*+</think>)?+[^<]*+<({names})>\s*+([^<{{\s][^<]*+)</\1>\s*+")

    @cached_property
    def _names(self) -> str:
        return "|".join(re.escape(name) for name in (*self._by_name, "answer", "think", "result"))

    @cached_property
    def _mark(self) -> re.Pattern[str]:
        return re.compile(rf"<(/?)({self._names})>")

    @cached_property
    def _foreign(self) -> re.Pattern[str]:
        # possessive: `<` followed by a megabyte of spaces must not be split in every possible way
        return re.compile(rf"<\s*+(/?)\s*+({self._names})\s*+>", re.IGNORECASE)

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """The closing tags of all tools and of the answer."""
        return tuple(f"</{name}>" for name in (*self._by_name, "answer"))

    def instructions(self) -> str:
        """Tells a model how to call these tools and how to answer."""
        lines = ["You may think inside <think> and </think>. Then do one of the following:"]
        for spec in self.specs:
            lines += self.explained(spec)
        lines.append("- <answer>your final answer</answer>: answers the question and ends the conversation.")
        return "\n".join(lines)

    @staticmethod
    def explained(spec: ToolSpec) -> list[str]:
        """Returns the lines that tell a model how to call one tool."""
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
        if (usual := self._usual.fullmatch(text)) is not None:
            name, body = usual.groups()
            parameter = self._text_parameters.get(name)
            return Answer(body.strip()) if parameter is None else Call(name, {parameter: body.strip()})
        at = thought_end(text, self._mark)
        while (mark := self._mark.search(text, at)) is not None:
            closing, name = mark.groups()
            at = mark.end()
            if name == "think":
                end = at if closing else text.find(END_OF_THINK, at)
                if end < 0:
                    return Mistake("format", f"{THINK} is not closed: end it with {END_OF_THINK}.", unfinished=True)
                at = end if closing else end + len(END_OF_THINK)
            elif closing:
                return Mistake("format", f"</{name}> closes nothing: write <{name}> before it.")
            elif name == "result":
                return Mistake("format", "Only the environment writes <result>. Call a tool, or write <answer>…</answer>.")
            else:
                return self._body(name, text, at)
        return self._nothing_found(text[at:])

    def _body(self, name: str, text: str, start: int) -> Action:
        """Returns the action whose body begins at `start`."""
        close = f"</{name}>"
        is_object = text.startswith("{", behind_space(text, start))
        if is_object and (end := json_end(text, start, close)) >= 0:
            return self._action(name, text[start:end].strip())
        end = text.find(close, start)
        if end < 0:
            return Mistake("format", f"<{name}> is not closed: end it with {close}.", unfinished=True)
        if name != "answer":
            if is_object:
                found = read_json(text, start, close)
                if isinstance(found, Unreadable) and found.unfinished:
                    return Mistake("call", f"The body of <{name}> is not a JSON object: {found.why}.", unfinished=True)
            behind = end + len(close)
            another = self._mark.search(text, behind) if behind < len(text) else None
            if another is not None and another[0] == close and text[behind : another.start()].strip():
                return self._ends_twice(name)
        return self._action(name, text[start:end].strip())

    def _ends_twice(self, name: str) -> Mistake:
        """Returns what to do about a body that seems to contain its own closing tag; half a body is never run."""
        spec = self._by_name[name]
        body = written({spec.text_parameter: f"… </{name}> …"}) if spec.text_parameter is not None else example(spec)
        return Mistake(
            "call",
            f"<{name}> ends at its first </{name}>, and here another one follows. To write </{name}> inside it, write a JSON "
            f"object, with \\u003c for the angle bracket: <{name}>{body}</{name}>.",
        )

    def _action(self, name: str, body: str) -> Action:
        if name == "answer":
            return Answer(body) if body else Mistake("call", "The answer is empty: write <answer>your final answer</answer>.")
        parameter = self._text_parameters[name]
        if parameter is None:
            return call_in(self._by_name[name], body or "{}")
        if not body:
            return Mistake("call", f"The call is empty: write <{name}>{parameter}</{name}>.")
        if body[0] == "{" and _holds_arguments(self._by_name[name], body):
            return call_in(self._by_name[name], body)
        return Call(name, {parameter: body})

    def _nothing_found(self, text: str) -> Mistake:
        known = list(self._by_name)
        ways = ", ".join(f"<{name}>…</{name}>" for name in known)
        other = re.search(r"<([A-Za-z_][\w.]{0,40})>", text)
        if other is not None:
            close = get_close_matches(other[1].lower(), [*known, "answer"], n=1, cutoff=0.5)
            hint = f" Did you mean <{close[0]}>?" if close else ""
            return Mistake("call", f"There is no tool <{other[1]}>. Use {ways} or <answer>…</answer>.{hint}")
        return Mistake("format", f"No tool call and no answer found. Write {ways} or <answer>…</answer>.")

    def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        r"""Writes a call; the body is the single string argument, or JSON if that string would not be read back unchanged.

        >>> from arpo_envs.tools.search import SPEC
        >>> TagDialect((SPEC,)).call("search", {"query": "what is </search>?"})
        '<search>{"query": "what is \\u003c/search>?"}</search>'
        """
        only = arguments.get(self._by_name[tool].text_parameter or "") if len(arguments) == 1 else None
        if isinstance(only, str) and not self._mark.search(only):
            bare = f"<{tool}>{only}</{tool}>"
            if not only.strip() or self.parse(bare) == Call(tool, arguments):
                return bare
        return f"<{tool}>{written(arguments)}</{tool}>"

    def answer(self, text: str) -> str:
        """Writes an answer; tags in it become square brackets."""
        return f"<answer>{self.neutralise(text)}</answer>"

    def result(self, text: str, *, trusted: bool = False) -> str:
        """Wraps a text in `<result>`; see `Dialect.result`."""
        return f"<result>{text if trusted else self.neutralise(text)}</result>"

    def neutralise(self, text: str) -> str:
        """Turns this dialect's tags in outside text into square brackets: `[answer]`."""
        return self._foreign.sub(r"[\1\2]", text) if "<" in text else text


def _holds_arguments(spec: ToolSpec, body: str) -> bool:
    """Whether the body of a tool with a text parameter gives arguments by name, even in broken JSON."""
    if arguments_in(spec, body) is not None:
        return True
    begun = re.match(r'\{\s*"(\w{1,60})"\s*:', body)
    return begun is not None and begun[1] in spec.parameters["properties"] and isinstance(read_json(body), Unreadable)
