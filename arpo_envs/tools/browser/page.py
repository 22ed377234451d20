"""A page as the browser shows it: text with numbered links in it."""

import re
import textwrap
from dataclasses import dataclass

from .kept import kept

WIDTH = 80
"""Columns of a line on display."""

_REPLACED = str.maketrans({"【": "〖", "】": "〗", "◼": "◾", "\u200b": None, "\0": None})
_LINK = re.compile(r"【(?P<id>\d+†)(?P<content>[^†】]+)(?P<domain>†[^†】]+)?】")
_END_OF_A_LINK = re.compile(r"^[^【】]*】")
_HUGE_WORD = re.compile(r"(?<!\S)(\S{8001,})")
_BEGINNING_OF_A_LINK = re.compile(r"【\d*(?:†(?P<content>[^†】]*)(?:†[^†】]*)?)?$")


@dataclass(frozen=True)
class Page:
    """What one call may show, and where its links lead.

    Args:
        url: where it is; empty for a page of search results.
        title: shown above every view.
        text: with its links as `【id†text】` or `【id†text†domain】`.
        links: the URL of each link id.
        places: for a page of results, the line that each of its links leads to, -1 for none; None for any other page.
    """

    url: str
    title: str
    text: str
    links: tuple[str, ...] = ()
    places: tuple[int, ...] | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The text as it is displayed and numbered."""
        return _wrapped(self.text)


def without_marks(text: str) -> str:
    """Returns text from outside without the brackets that mark links.

    >>> without_marks("a 【0†b】")
    'a 〖0†b〗'
    """
    return text.translate(_REPLACED)


def link_mark(number: int, text: str, domain: str = "") -> str:
    """Returns how a link is displayed.

    Args:
        number: its id.
        text: what can be read; has no brackets that mark links.
        domain: where it leads, if that is another domain than the page's.

    >>> link_mark(3, "json"), link_mark(4, "RFC 7159", "www.rfc-editor.org")
    ('【3†json】', '【4†RFC 7159†www.rfc-editor.org】')
    """
    behind = f"†{domain}" if domain else ""
    return f"【{number}†{text.replace('†', '‡')}{behind}】"


def without_links(text: str) -> str:
    r"""Returns a page's text with its links as plain text, on the same lines.

    >>> without_links("See 【3†json】 and 【4†RFC 7159†www.rfc-editor.org】.")
    'See json and RFC 7159.'
    """
    text = _END_OF_A_LINK.sub("", text)
    text = _BEGINNING_OF_A_LINK.sub(lambda link: link["content"] or "", text)
    return _LINK.sub(lambda link: link["content"] + "\n" * (link[0].count("\n") - link["content"].count("\n")), text)


def _itself(text: str) -> str:
    return text


def _length(lines: tuple[str, ...]) -> int:
    return sum(map(len, lines))


@kept(20_000_000, key=_itself, size=_length)
def _wrapped(text: str) -> tuple[str, ...]:
    wrapper = textwrap.TextWrapper(width=WIDTH, replace_whitespace=False, drop_whitespace=False)
    lines: list[str] = []
    for line in text.split("\n"):
        fits = len(line) <= WIDTH and "\t" not in line  # most do, and wrapping takes a microsecond per character
        lines += [line] if fits else _broken(line, wrapper)
    return tuple(lines)


def _broken(line: str, wrapper: textwrap.TextWrapper) -> list[str]:
    """Returns a line as several; the wrapper would copy the rest of a huge word once for each of its lines."""
    lines: list[str] = []
    for number, part in enumerate(_HUGE_WORD.split(line)):
        is_huge = number % 2 == 1
        lines += [part[at : at + WIDTH] for at in range(0, len(part), WIDTH)] if is_huge else wrapper.wrap(part)
    return lines
