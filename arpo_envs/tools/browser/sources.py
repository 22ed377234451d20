"""Where pages come from: one protocol for built-in sites, folders and live servers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Document:
    """What a source has at a URL.

    Args:
        url: where it was found, after redirects; links in it are relative to this.
        html: the document; bytes are UTF-8.
        title: instead of the one in the document.
    """

    url: str
    html: str | bytes
    title: str = ""


@dataclass(frozen=True)
class Hit:
    """One result of a search."""

    url: str
    title: str
    summary: str


@dataclass(frozen=True)
class PageError:
    """Why there is nothing to show, in words for the model."""

    text: str


@runtime_checkable
class PageSource(Protocol):
    """A web: what is at a URL, and what is found by a search. It never changes while an episode runs, or says so itself."""

    @property
    def name(self) -> str:
        """What distinguishes it from other sources, under which its pages are recorded; it contains no credential."""
        ...

    @property
    def searches(self) -> bool:
        """Whether it can search."""
        ...

    @property
    def trusted(self) -> bool:
        """Whether its HTML is known to be harmless, so that it need not be read in a process of its own."""
        ...

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns what is at a URL, within `timeout` seconds; a wrong URL is the model's mistake, and no exception."""
        ...

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        """Returns at most `count` results, the best first, within `timeout` seconds."""
        ...
