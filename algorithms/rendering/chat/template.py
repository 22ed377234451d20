"""A tokenizer's chat template, and what dummy conversations reveal about it.

Nothing here is looked up by a model's name: what a template can do shows in what it renders.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

Message = Mapping[str, Any]

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "dummylookup",
        "description": "Looks a name up.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}
"""A tool for dummy conversations."""

QUESTION, ACTION, RESULT = "DUMMYQUESTION", "DUMMYACTION", "DUMMYRESULT"
"""Strings for dummy conversations, which no template contains."""

_PINNED = {"date_string": "26 Jul 2024"}


class ChatTemplate:
    """Renders conversations as text.

    Args:
        tokenizer: a `transformers` tokenizer with a chat template.
        options: more variables of the template, e.g. `{"enable_thinking": False}`. Llama's date is pinned
            unless it is among them, so that a prompt does not depend on the day it is rendered.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._options = {**_PINNED, **options}

    def render(self, messages: Sequence[Message], *, prompt: bool, tools: Sequence[Mapping[str, Any]] = ()) -> str | None:
        """Returns the text of a conversation, None if the template refuses it.

        Args:
            messages: roles and contents.
            prompt: whether the beginning of an assistant turn follows.
            tools: specifications in the layout of `ToolSpec.function`.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=prompt,
                **self._options,
            )
        except Exception:  # noqa: BLE001  # a template is a program, and may fail in any way
            return None
        return str(text)

    @cached_property
    def source(self) -> str:
        """The template itself; if there are several named ones, all of them."""
        template = self._tokenizer.chat_template
        return "\n".join(template.values()) if isinstance(template, dict) else str(template)

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system message is rendered."""
        text = self.render([system("DUMMYSYSTEM"), user(QUESTION)], prompt=True)
        return text is not None and "DUMMYSYSTEM" in text and QUESTION in text

    @cached_property
    def takes_tools(self) -> bool:
        """Whether specifications of tools are rendered."""
        text = self.render([user(QUESTION)], prompt=True, tools=[TOOL])
        return text is not None and TOOL["function"]["name"] in text and QUESTION in text

    @cached_property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """A dummy tool where the template takes tools."""
        return (TOOL,) if self.takes_tools else ()

    @cached_property
    def generation_prompt(self) -> str:
        """What begins an assistant turn; "" if it cannot be told apart from the rest."""
        bare, prompted = (self.render([user(QUESTION)], prompt=prompt) for prompt in (False, True))
        if bare is None or prompted is None:
            return ""
        return prompted[len(self._common(bare, prompted)) :]

    @cached_property
    def turn_end(self) -> str:
        """What follows the content of an assistant turn; where the template also ends the whole text, that is left out."""
        conversation = [user(QUESTION), assistant(ACTION)]
        bare, going_on = (self.render(turns, prompt=False) for turns in (conversation, [*conversation, user(QUESTION)]))
        if bare is None or going_on is None:
            return ""
        return self._common(bare.partition(ACTION)[2], going_on.partition(ACTION)[2])

    def _common(self, left: str, right: str) -> str:
        """Returns the longest common beginning that does not end inside a control token or between two words."""
        marks = sorted((token.content for token in self._tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
        at_marks = re.compile("(" + "|".join(map(re.escape, marks)) + ")" if marks else r"(?!)")
        pairs = zip(at_marks.split(left), at_marks.split(right), strict=False)
        return "".join(part for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def system(content: str) -> Message:
    """Returns a system message."""
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    """Returns a user message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """Returns an assistant message; a call is part of its text."""
    return {"role": "assistant", "content": content}


def result(content: str) -> Message:
    """Returns the message of a tool."""
    return {"role": "tool", "name": TOOL["function"]["name"], "tool_call_id": "dummy0001", "content": content}
