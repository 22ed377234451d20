"""From what a source has to what a browser shows; HTML of strangers is read in a process of its own."""

import hashlib
import html
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...rewards.worker import Overrun, Raised, shared_worker
from .html import to_page
from .kept import kept
from .page import Page, without_marks
from .sources import Document, Hit, PageError, PageSource

FORMAT = 1
"""Part of the name of everything kept that was read of a page; raise it whenever the same HTML becomes another page."""
SOURCE_PREFIX = "view-source:"
MAX_HTML = 4 * 2**20
"""Bytes of a document that is still read."""
_SECONDS = 5.0
"""Processor time that reading may take; megabytes take a tenth of it."""
_KEPT = 50_000_000
"""Characters of the pages last read that are kept, in this process and of those that another one reads."""
_READERS = 4
"""Processes that read pages at most, so that a slow page delays no other."""
_WHOLE = ("html:to_record", ("selectolax.lexbor",))
_READABLE = ("readable:to_readable_record", ("selectolax.lexbor", "trafilatura"))
"""Functions that read, and the libraries they need."""

Convert = Callable[..., Page | PageError]
"""Takes what `page_of` takes, and returns what it would."""


def read(
    source: PageSource,
    url: str,
    *,
    timeout: float = 10.0,
    raw: bool = False,
    readable: bool = False,
    convert: Convert | None = None,
) -> Page | PageError:
    """Returns what a browser would show of a URL; the pages last read are kept.

    Args:
        source: where the page comes from.
        url: of the page.
        timeout: seconds that fetching and reading may take together.
        raw: whether to show the HTML as it is.
        readable: whether to leave out what stands around the text, with trafilatura.
        convert: how a document becomes a page; by default as `page_of` does it.
    """
    began = time.monotonic()
    found = source.fetch(url, timeout=timeout)
    if isinstance(found, PageError):
        return found
    if len(found.html) > MAX_HTML:
        return PageError(f"the page is too large ({len(found.html)} bytes; at most {MAX_HTML} are read)")
    if raw:
        return _source_of(found)
    left = max(began + timeout - time.monotonic(), 0.01)
    return (convert or page_of)(found, trusted=source.trusted, timeout=left, readable=readable)


def page_of(document: Document, *, trusted: bool, timeout: float, readable: bool = False) -> Page | PageError:
    """Returns a document as a page.

    Args:
        document: what a source has.
        trusted: whether its HTML can be read in this process; nesting alone can end a process.
        timeout: seconds that reading may take in a process of its own.
        readable: whether to leave out what stands around the text, always in a process of its own.
    """
    if trusted and not readable:
        return _page(_Asked(document))
    try:
        return _page_read_apart(_Asked(document, readable, timeout))
    except (Overrun, Raised) as error:
        return PageError(f"the page cannot be read: {error}")


@dataclass(frozen=True)
class _Asked:
    """A document to be read; how long that may take does not make it another one."""

    document: Document
    readable: bool = False
    timeout: float = 0.0


def _name(asked: _Asked) -> tuple[object, ...]:
    """Returns what tells what was asked from anything else: a digest in place of megabytes."""
    document = asked.document
    data = document.html if isinstance(document.html, bytes) else document.html.encode("utf-8", "surrogatepass")
    return type(document.html), hashlib.blake2b(data).digest(), document.url, document.title, asked.readable


def _size(page: Page) -> int:
    return len(page.text) + sum(map(len, page.links))


@kept(_KEPT, key=_name, size=_size)
def _page(asked: _Asked) -> Page:
    return to_page(asked.document.html, asked.document.url, asked.document.title)


@kept(_KEPT, key=_name, size=_size)
def _page_read_apart(asked: _Asked) -> Page:
    document = asked.document
    function, modules = _READABLE if asked.readable else _WHOLE
    reader = shared_worker(f"{__package__}.{function}", modules, longest=8 * MAX_HTML, processes=_READERS)
    found = reader.call((document.html, document.url, document.title), seconds=_SECONDS, wall=asked.timeout)
    return Page(found["url"], found["title"], found["text"], tuple(found["links"]))


def _source_of(document: Document) -> Page:
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
