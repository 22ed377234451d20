"""Whether a template renders a conversation as its turns add up, and where it does not.

A template that rewrites earlier turns (say, by dropping their reasoning) shows a served model a different context
from the one it was trained on. Each kind of turn is tried once, on dummy conversations of several turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .bridge import Bridge
from .calls import CallFormat
from .template import QUESTION, ChatTemplate, assistant, system, user

Encode = Callable[[str], Sequence[int]]

_RESULTS = ("Köln is in Germany.", '{"code": 49,\n "of": "Germany"}\n', "Euro")


@dataclass(frozen=True)
class Rewrite:
    """A place where a template does not render what was said.

    Args:
        turn: the kind of assistant turn.
        said: text of the conversation, as its turns add up, from where it differs.
        rendered: what the template makes of it.
    """

    turn: str
    said: str
    rendered: str

    def __str__(self) -> str:
        """Describes it in one clause."""
        return f"{self.turn}: after {self.said[:70]!r} was said, it renders {self.rendered[:70]!r}"


def thought(generation_prompt: str) -> tuple[str, str]:
    r"""Returns the thought that a generation prompt writes for the model: (one it opens, one it opens and closes).

    >>> thought("<|im_start|>assistant\n<think>\n")
    ('<think>\n', '')
    >>> thought("<|im_start|>assistant\n")
    ('', '')
    """
    _, mark, rest = generation_prompt.rpartition("<think>")
    return ("", mark + rest) if "</think>" in rest else (mark + rest if mark else "", "")


def rewritten_turns(template: ChatTemplate, bridge: Bridge, calls: CallFormat, encode: Encode) -> tuple[Rewrite, ...]:
    """Returns where a template changes turns written as it asks for them: then a context is not what was said."""
    return _compared(template, bridge, _kinds(template, calls)[0], encode)


def normalised_turns(template: ChatTemplate, bridge: Bridge, calls: CallFormat, encode: Encode) -> tuple[Rewrite, ...]:
    """Returns where a template tidies up what models may write: spaces around a turn, or no thought at all."""
    return _compared(template, bridge, _kinds(template, calls)[1], encode)


def _kinds(template: ChatTemplate, calls: CallFormat) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the turns a template asks for, and others."""
    call = calls.call("dummylookup", {"query": "Köln"})
    opened, closed = thought(template.generation_prompt)
    thinking = {"a turn that thinks": ("" if opened else "<think>\n") + "Where is Köln?\n</think>\n\n" + call}
    plain = {"a plain turn": "I do not know.", "a tool call": call}
    others = {
        "an empty thought": "<think>\n\n</think>\n\nYes.",
        "a turn that ends in spaces": "Yes. \n",
        "a turn that begins with spaces": " \nYes.",
    }
    if opened:
        return thinking, {}
    if closed:
        return plain, others
    if "</think>" in template.source:
        return thinking, plain | others
    return plain | thinking, others


def _compared(template: ChatTemplate, bridge: Bridge, kinds: dict[str, str], encode: Encode) -> tuple[Rewrite, ...]:
    return tuple(found for turn, action in kinds.items() if (found := _compare(template, bridge, turn, action, encode)))


def _compare(template: ChatTemplate, bridge: Bridge, turn: str, action: str, encode: Encode) -> Rewrite | None:
    """Compares three turns of one kind, as text and as tokens."""
    conversation = [*([system("Be brief.")] if template.takes_system else []), user(QUESTION)]
    said = template.render(conversation, prompt=True, tools=bridge.tools) or ""
    tokens = list(encode(said))
    opened, _ = thought(template.generation_prompt)
    for content in _RESULTS:
        way = bridge.text(content)
        conversation += [assistant(opened + action), bridge.message(content)]
        said += action + way
        tokens += [*encode(action), *encode(way)]
    rendered = template.render(conversation, prompt=True, tools=bridge.tools)
    if rendered is None:
        return Rewrite(turn, said[-70:], "nothing: it refuses the conversation")
    if rendered != said:
        at = next((i for i, (a, b) in enumerate(zip(said, rendered, strict=False)) if a != b), min(len(said), len(rendered)))
        return Rewrite(turn, said[max(0, at - 30) :], rendered[max(0, at - 30) :])
    # the tokenizer may merge spaces at a seam; that is not rewriting, and ids are kept as sampled
    if action == action.strip() and list(encode(rendered)) != tokens:
        return Rewrite(turn, said[-70:], "the same text in other tokens")
    return None
