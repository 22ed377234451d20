"""What a call shows of a page: some of its numbered lines under a heading, or the places where a pattern occurs."""

from collections.abc import Callable
from urllib.parse import quote, unquote

from .page import Page, without_links, without_marks

VIEW_TOKENS = 1024
"""Tokens that a view shows unless a number of lines is asked for."""
MATCHES = 50
"""How many places `find` shows at most."""
_SHOWN_LINES = 4
_LONGEST = 1024

Count = Callable[[str], int]
"""Returns the number of tokens in a line."""


class UsageError(Exception):
    """The model asked for something that is not there; the text tells it so."""


def count_words(text: str) -> int:
    """Returns the number of words in a text, which stands for its tokens where no tokenizer is given.

    >>> count_words("L0: Bordeaux is a city")
    5
    """
    return len(text.split())


def view(
    page: Page, cursor: int, first: int = 0, lines: int = -1, *, count: Count = count_words, limit: int = VIEW_TOKENS
) -> str:
    r"""Returns lines of a page under a heading with the cursor, title, URL and position.

    Args:
        page: what to show.
        cursor: the number that the model calls this view by.
        first: the first line.
        lines: how many; below 1 as many as `limit` tokens reach.
        count: how many tokens a numbered line has.
        limit: tokens; the line in which they are exceeded is still shown.

    Raises:
        UsageError: the page has no such line.

    >>> print(view(Page("https://a.example/", "A", "one\ntwo"), 0, first=1))
    [0] A (https://a.example/)
    **viewing lines [1 - 1] of 1**
    <BLANKLINE>
    L1: two
    """
    total = len(page.lines)
    if first >= total:
        raise UsageError(f"Invalid location parameter: `{first}`. Cannot exceed page maximum of {total - 1}.")
    numbered = [
        f"L{number}: {line}" for number, line in enumerate(page.lines[first : first + lines if lines > 0 else total], first)
    ]
    shown = numbered if lines > 0 else numbered[: _reached(numbered, count, limit)]
    place = f" ({shortened(without_marks(unquote(page.url)))})" if page.url else ""
    position = f"**viewing lines [{first} - {first + len(shown) - 1}] of {total - 1}**"
    return "\n".join([f"[{cursor}] {page.title}{place}", position, "", *shown])


def found_in(page: Page, pattern: str) -> Page:
    """Returns the page of results of `find`: where a pattern occurs, with the lines from there on.

    Args:
        page: where to look; links count as their text.
        pattern: compared without case.
    """
    pattern = pattern.lower()
    lines = without_links("\n".join(page.lines)).split("\n")
    places: list[int] = []
    number = 0
    while number < len(lines) and len(places) < MATCHES:
        if pattern in lines[number].lower():
            places.append(number)
            number += _SHOWN_LINES
        else:
            number += 1
    pieces = [
        "\n".join([f"# 【{i}†match at L{place}】", *lines[place : place + _SHOWN_LINES]]) for i, place in enumerate(places)
    ]
    return Page(
        url=f"{page.url}/find?pattern={quote(pattern, errors='replace')}",
        title=f"Find results for text: `{pattern}` in `{page.title}`",
        text="\n\n".join(pieces) if pieces else f"No `find` results for pattern: `{pattern}`",
        links=(page.url,) * len(places),
        places=tuple(places),
    )


def shortened(text: str, length: int = _LONGEST) -> str:
    """Returns a text that is not longer than `length`, with a mark where it was cut.

    >>> shortened("abcdefgh", 6)
    'abc...'
    """
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _reached(lines: list[str], count: Count, limit: int) -> int:
    """Returns how many lines are shown until their tokens exceed the limit, the line included in which they do."""
    tokens = 0
    for number, line in enumerate(lines, 1):
        tokens += count(line)
        if tokens > limit:
            return number
    return len(lines)
