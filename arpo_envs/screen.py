"""What a person sees of an episode in a terminal: the question, actions, results, and how it ended."""

import re
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

_MOST = 10_000
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


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
    r"""Returns a text as a terminal can show it: not too long, and with signs for control characters, which could steer it.

    >>> readable("red: \x1b[31m"), readable("Köln", "ascii")
    ('red: ␛[31m', 'K?ln')
    """
    cut = text if len(text) <= _MOST else f"{text[:_MOST]}… [{len(text) - _MOST} more characters]"
    return cut.translate(_CONTROLS).encode(encoding, "replace").decode(encoding)
