"""What a person sees of an episode in a terminal: the question, actions, results, and how it ended."""

import re
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

_MOST = 10_000
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_INVISIBLE = (
    *(0xAD, 0x61C, 0x180E, 0xFEFF),
    *range(0x200B, 0x2010),  # without width, and marks of direction
    *range(0x2028, 0x202F),  # ends of lines and paragraphs, and overrides of direction
    *range(0x2060, 0x2070),  # isolates of direction among them
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),  # a whole hidden alphabet
)
_SIGNS: dict[int, int | str] = {**_CONTROLS, **{code: f"<U+{code:04X}>" for code in _INVISIBLE}}
"""What stands for the characters that would steer a terminal, turn text around in it, or hide."""


def show(said: Iterable[tuple[str, str]], console: Console | None = None) -> None:
    """Prints a part of a conversation.

    Args:
        said: (who, what): "question", "action", "observation" or "end", and the text.
        console: where to; by default the standard output as it is now.
    """
    console = console or Console(highlight=False)
    shown = [_shown(who, text, console.encoding) for who, text in said if text]
    if shown:
        console.print(Group(*shown))


def _shown(who: str, text: str, encoding: str) -> RenderableType:
    if who == "question":
        return question_panel(text, encoding)
    if who == "action":
        return Text(readable(f"> {text}", encoding), style="green")
    return result_panel(text, encoding) if who == "observation" else Text(readable(text, encoding), style="bold")


def question_panel(text: str, encoding: str = "utf-8") -> Panel:
    """Returns a question in its frame."""
    return Panel(Text(readable(text, encoding), style="bold"), title="Question", title_align="left", border_style="cyan")


def result_panel(observation: str, encoding: str = "utf-8") -> Panel:
    """Returns what an action led to in its frame, without the mark of a dialect around it."""
    inside = re.fullmatch(r"<(\w+)>(.*)</\1>", observation, re.DOTALL)
    text = readable(inside[2] if inside is not None else observation, encoding)
    return Panel(Text(text), title="Result", title_align="left", border_style="dim")


def readable(text: str, encoding: str = "utf-8") -> str:
    r"""Returns a text as a terminal can show it: not too long, with signs for what could steer the terminal or mislead the eye.

    >>> readable("red: \x1b[31m"), readable("Köln", "ascii"), readable("a\u202eb")
    ('red: ␛[31m', 'K?ln', 'a<U+202E>b')
    """
    cut = text if len(text) <= _MOST else f"{text[:_MOST]}… [{len(text) - _MOST} more characters]"
    return cut.translate(_SIGNS).encode(encoding, "replace").decode(encoding)
