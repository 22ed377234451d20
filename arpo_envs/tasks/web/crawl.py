"""A web as far as links lead from one page: what each page shows, and where its links lead."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urldefrag

from ...errors import ConfigError
from ...tools.browser import Page, PageSource, read


@dataclass(frozen=True, eq=False)
class Web:
    """Pages and the links between them; part of an address behind # does not make another page.

    Args:
        pages: by URL.
    """

    pages: Mapping[str, Page]

    @cached_property
    def targets(self) -> Mapping[str, tuple[str, ...]]:
        """The page that each link of a page leads to, in the order of their ids; "" for one outside this web."""
        found = {}
        for url, page in self.pages.items():
            bare = (urldefrag(link).url for link in page.links)
            found[url] = tuple([link if link in self.pages else "" for link in bare])
        return found

    @cached_property
    def origins(self) -> Mapping[str, tuple[str, ...]]:
        """The pages that link to a page."""
        found: dict[str, dict[str, None]] = {url: {} for url in self.pages}
        for url, targets in self.targets.items():
            for target in targets:
                if target and target != url:
                    found[target][url] = None
        return {url: tuple(origins) for url, origins in found.items()}

    def distances(self, target: str) -> Mapping[str, int]:
        """Returns the fewest clicks from each page to one of them; pages from which no links lead there are left out."""
        clicks, reached = {target: 0}, [target]
        while reached:
            before = dict.fromkeys(origin for page in reached for origin in self.origins[page] if origin not in clicks)
            clicks.update(dict.fromkeys(before, clicks[reached[0]] + 1))
            reached = list(before)
        return clicks


def crawl(source: PageSource, start: str, *, at_most: int = 5000, show_progress: bool = True) -> Web:
    """Returns the web behind a page, reading it by breadth-first search.

    Args:
        source: where pages come from; what cannot be read is left out.
        start: the URL to begin at.
        at_most: how many pages to read.
        show_progress: whether a bar shows on standard error.

    Raises:
        ConfigError: the first page cannot be read.
    """
    from rich.console import Console
    from rich.progress import Progress

    pages: dict[str, Page] = {}
    waiting = {urldefrag(start).url: None}
    seen = set(waiting)
    with Progress(console=Console(stderr=True), disable=not show_progress, transient=True) as progress:
        bar = progress.add_task(f"Following links from {start}", total=1)
        while waiting and len(pages) < at_most:
            url = next(iter(waiting))
            del waiting[url]
            page = read(source, url)
            if isinstance(page, Page):
                pages[url] = page
                new = dict.fromkeys(link for link in (urldefrag(link).url for link in page.links) if link not in seen)
                waiting.update(new)
                seen.update(new)
            elif not pages:
                raise ConfigError(f"Nothing can be read at {start}: {page.text}.")
            progress.update(bar, completed=len(pages), total=min(len(pages) + len(waiting), at_most))
    return Web(pages)
