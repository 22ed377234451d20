"""What a template puts around a tool's result between two assistant turns: found once, on a dummy conversation.

The bridge is text from the end of one assistant turn to the beginning of the next. It starts with a control
token, so its tokens do not depend on what comes before it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .template import ACTION, QUESTION, RESULT, ChatTemplate, Message, assistant, result, user

_PROBE = ' \t "quoted" \\ {"a": [1]} é\u2028 <b>&\'s\n two\n\n lines \n'
"""A content that reveals what a template does with contents."""


def _as_is(text: str) -> str:
    return text


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]  # the quotes belong to the bridge


def _stripped_in_json(text: str) -> str:
    return _in_json(text.strip())


_CHANGES: tuple[Callable[[str], str], ...] = (_as_is, str.strip, _in_json, _stripped_in_json)


@dataclass(frozen=True)
class Bridge:
    """What one model family's template puts between an action and the next.

    Args:
        role: the role of results, "tool" or "user".
        head: text from the end of the assistant turn to the result.
        tail: text from the result to the beginning of the next assistant turn.
        change: what the template does with a result's text.
        tools: dummy specifications it was found with.
    """

    role: str
    head: str
    tail: str
    change: Callable[[str], str] = _as_is
    tools: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def text(self, content: str) -> str:
        """Returns the whole bridge with a result in it."""
        return self.head + self.change(content) + self.tail

    def seen(self, content: str) -> str:
        """Returns what the model sees of a result: without surrounding spaces where the template drops them."""
        return content.strip() if self.change in (str.strip, _stripped_in_json) else content

    def message(self, content: str) -> Message:
        """Returns the message with this content."""
        return result(content) if self.role == "tool" else user(content)


def find_bridge(template: ChatTemplate, role: str, tools: Sequence[Mapping[str, Any]] = ()) -> Bridge | None:
    """Returns the bridge of a template; None if it refuses the role, or changes results in an unknown way."""
    for change in _CHANGES:
        bridge = Bridge(role, "", "", change, tools)
        after = _after_action(template, bridge, RESULT)
        if after is None or RESULT not in after:
            return None
        head, _, tail = after.partition(RESULT)
        bridge = Bridge(role, head, tail, change, tools)
        if _after_action(template, bridge, _PROBE) == bridge.text(_PROBE):
            return bridge
    return None


def _after_action(template: ChatTemplate, bridge: Bridge, content: str) -> str | None:
    conversation = [user(QUESTION), assistant(ACTION), bridge.message(content)]
    text = template.render(conversation, prompt=True, tools=bridge.tools)
    return text.partition(ACTION)[2] if text is not None else None
