"""From what a source has to what a browser shows."""

import html
from collections.abc import Sequence
from functools import lru_cache

from .html import to_page
from .page import Page, without_marks
from .sources import Document, Hit

SOURCE_PREFIX = "view-source:"
_KEPT = 1024


@lru_cache(maxsize=_KEPT)
def page_of(document: Document) -> Page:
    """Returns a document as a page; the pages last asked for are kept.

    Args:
        document: of a source that is trusted.
    """
    return to_page(document.html, document.url, document.title)


def source_of(document: Document) -> Page:
    """Returns the page that shows a document's HTML as it is."""
    text = document.html.decode("utf-8", "replace") if isinstance(document.html, bytes) else document.html
    url = SOURCE_PREFIX + document.url
    return Page(
        url, without_marks(document.title or document.url), without_marks(text).replace("\r\n", "\n").replace("\r", "\n")
    )


def results_page(query: str, hits: Sequence[Hit]) -> Page:
    r"""Returns the page of results of a search: a list of links with what each leads to.

    >>> results_page("köln", [Hit("https://a.example/", "Köln", "city in Germany")]).text
    '# Search Results\n\n  * 【0†Köln†a.example】 city in Germany'
    """
    rows = [
        f"<li><a href='{html.escape(hit.url)}'>{html.escape(hit.title)}</a> {html.escape(hit.summary)}</li>" for hit in hits
    ]
    found = to_page(f"<h1>Search Results</h1><ul>{''.join(rows)}</ul>", "", query)
    if not hits:
        return Page("", found.title, f"{found.text}\n\nNothing was found. Try other words.".strip(), places=())
    return Page("", found.title, found.text, found.links, (-1,) * len(found.links))
