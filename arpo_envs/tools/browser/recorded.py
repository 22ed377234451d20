"""Pages and searches that are answered by a cache, a recorder or a recording alone, whatever source they come from.

Documents and hits are kept as the source gave them. How the HTML of strangers was read is kept, too: that has a limit of time,
so on a busier machine, or right after a slow fetch, it might end in another way.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import numpy as np

from ...tasks import Task
from ..cache import Answer, Answers, Place, Replayer, ask, subject_of
from .conversion import FORMAT, MAX_HTML, Convert, page_of
from .page import Page
from .sources import Document, Hit, PageError, PageSource

_VERSION = 1
"""Of what is kept of a document and a search."""


class _Sourced(Protocol):
    """A tool that asks a source of pages, and who answers for it, one before the other; the last one asks the source."""

    source: PageSource
    answers: tuple[Answers, ...]


T = TypeVar("T", bound=_Sourced)


def asked_through(tool: T, answers: Answers) -> T:
    """Returns a copy of a tool whose source is asked through `answers`, which stand before those that it has already.

    Raises:
        ConfigError: there is a credential in the source's name.
    """
    subject(tool.source)
    twin = copy.copy(tool)
    twin.answers = (answers, *tool.answers)
    return twin


def subject(source: PageSource) -> bytes:
    """Returns what tells a source from others in a file of answers: its class and its name.

    Raises:
        ConfigError: there is a credential in its name.
    """
    return subject_of(source, {"source": source.name, "version": _VERSION}, "browser")


def placed(source: PageSource, answers: tuple[Answers, ...], task: Task, rng: np.random.Generator) -> PageSource:
    """Returns a source for a new episode; where nobody answers for it, the source itself."""
    return PlacedSource(source, answers, Place.of(task, rng)) if answers else source


def is_replayed(answers: tuple[Answers, ...]) -> bool:
    """Whether a recording alone answers, so that the source is never asked."""
    return any(isinstance(each, Replayer) for each in answers)


def forked(source: PageSource) -> PageSource:
    """Returns a source for another path from here on; only a placed one knows where it is."""
    return replace(source) if isinstance(source, PlacedSource) else source


def reseed(source: PageSource, seed: int) -> None:
    """Moves a placed source to the place of a fork."""
    if isinstance(source, PlacedSource):
        source.place = source.place.reseeded(seed)


def converter(source: PageSource) -> Convert | None:
    """Returns how documents of a source become pages, None for the usual way."""
    return source.page if isinstance(source, PlacedSource) else None


@dataclass
class PlacedSource:
    """A source, as one path of one episode asks it.

    Args:
        source: has the pages.
        answers: who answers, one before the other; the last one asks the source.
        place: where the path is.
    """

    source: PageSource
    answers: tuple[Answers, ...]
    place: Place

    @property
    def name(self) -> str:
        """The source's own: a snapshot fits, whoever answers."""
        return self.source.name

    @property
    def searches(self) -> bool:
        """The source's own."""
        return self.source.searches

    @property
    def trusted(self) -> bool:
        """The source's own."""
        return self.source.trusted

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns what is at a URL."""

        def live() -> Answer:
            found = self.source.fetch(url, timeout=timeout)
            return _failed(found) if isinstance(found, PageError) else Answer(_written(found))

        answer = self._asked("browser.fetch", {"url": url}, live, timeout)
        return PageError(answer.value["error"]) if answer.failed else _document(answer.value)

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        """Returns what a search finds."""

        def live() -> Answer:
            found = self.source.search(query, count, timeout=timeout)
            if isinstance(found, PageError):
                return _failed(found)
            return Answer([[hit.url, hit.title, hit.summary] for hit in found])

        answer = self._asked("browser.search", {"query": query, "count": count}, live, timeout)
        return PageError(answer.value["error"]) if answer.failed else [Hit(*row) for row in answer.value]

    def page(self, document: Document, *, trusted: bool, timeout: float, readable: bool = False) -> Page | PageError:
        """Returns a document as a page; see `page_of`."""
        if trusted and not readable:
            return page_of(document, trusted=True, timeout=timeout)

        def live() -> Answer:
            page = page_of(document, trusted=trusted, timeout=timeout, readable=readable)
            if isinstance(page, PageError):
                return _failed(page)
            return Answer({"title": page.title, "text": page.text, "links": list(page.links)})

        answer = self._asked("browser.read", _digest(document) | {"readable": readable}, live, timeout)
        if answer.failed:
            return PageError(answer.value["error"])
        return Page(document.url, answer.value["title"], answer.value["text"], tuple(answer.value["links"]))

    def _asked(self, name: str, arguments: Mapping[str, Any], live: Callable[[], Answer], timeout: float) -> Answer:
        question = ask(name, subject(self.source), arguments, self.place)
        self.place = self.place.after(name, arguments)
        for answers in reversed(self.answers):
            live = partial(answers.answer, question, live, timeout=timeout)
        return live()


def _failed(error: PageError) -> Answer:
    """Returns an error as what may be otherwise at another time: a source does not say which of its errors are for good."""
    return Answer({"error": error.text}, failed=True)


def _written(document: Document) -> dict[str, Any]:
    """Returns a document as JSON, from which every byte comes back; of one that is too large, enough to see that."""
    html = document.html[: MAX_HTML + 1]
    is_bytes = isinstance(html, bytes)
    text = html.decode("utf-8", "surrogateescape") if isinstance(html, bytes) else html
    return {"url": document.url, "title": document.title, "html": text, "bytes": is_bytes}


def _document(record: Mapping[str, Any]) -> Document:
    html: str = record["html"]
    return Document(record["url"], html.encode("utf-8", "surrogateescape") if record["bytes"] else html, title=record["title"])


def _digest(document: Document) -> dict[str, Any]:
    """Returns what a page depends on, without the document itself."""
    record = _written(document)
    html = blake2b(record.pop("html").encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
    return {**record, "html": html, "format": FORMAT}
