"""What a browser remembers of an episode: pure data, so that a copy is exact and a snapshot can be stored."""

from dataclasses import dataclass, replace

from .display import UsageError
from .page import Page


@dataclass(frozen=True)
class BrowserState:
    """Everything that was shown, and where the model is.

    Args:
        pages: the page of each cursor.
        trail: the cursors that `back` goes back along; the last one is what is shown now.
        clicks: how many links were opened.

    >>> state = BrowserState().showing(Page("https://a.example/", "A", "text"))
    >>> state.page().title, state.page(0).title
    ('A', 'A')
    """

    pages: tuple[Page, ...] = ()
    trail: tuple[int, ...] = ()
    clicks: int = 0

    @property
    def cursor(self) -> int:
        """The cursor of what is shown now, -1 before anything is."""
        return len(self.pages) - 1

    def page(self, cursor: int = -1) -> Page:
        """Returns the page of a cursor; -1 is the current one.

        Raises:
            UsageError: there is none.
        """
        if not self.pages:
            raise UsageError("No pages to access!")
        if not -1 <= cursor <= self.cursor:
            raise UsageError(f"Cursor `{cursor}` is out of range. Available cursor indices: [0 - {self.cursor}].")
        return self.pages[cursor]

    def known(self, url: str) -> Page | None:
        """Returns the page last shown of a URL, None if none was; the URL of a page of results is nowhere."""
        return next((page for page in reversed(self.pages) if page.url == url and page.places is None), None)

    def showing(self, page: Page, *, clicks: int = 0) -> "BrowserState":
        """Returns the state in which a page is shown under a new cursor.

        Args:
            page: what is shown.
            clicks: links that were opened for it.
        """
        pages = (*self.pages, page)
        return BrowserState(pages, (*self.trail, len(pages) - 1), self.clicks + clicks)

    def back(self) -> "BrowserState":
        """Returns the state in which what was shown before is shown again, under a new cursor.

        Raises:
            UsageError: nothing was.
        """
        if len(self.trail) < 2:
            raise UsageError("There is no page to go back to.")
        again = replace(self, trail=self.trail[:-2])
        return again.showing(self.pages[self.trail[-2]])
