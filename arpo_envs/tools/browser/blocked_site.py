"""Any source of pages without those of some domains, such as domains that publish the answers of a benchmark."""

import time
from collections.abc import Sequence

from ...errors import ConfigError
from ...members import PREPARE_SEARCH, REQUIRE_READY
from ..domains import ascii_names, is_within
from .sources import Document, Hit, PageError, PageSource

_MOST = 100
"""How many results are looked through for enough that may be shown."""


class BlockedSite:
    """A source of pages in which pages of some domains, and of all below them, are neither found nor opened.

    A page counts as one of the domain where it was found in the end, after redirects.

    Args:
        source: any source of pages.
        domains: names such as "example.org"; neither addresses nor patterns.

    Raises:
        ConfigError: there is no domain, or one is not a name.

    >>> from arpo_envs.tasks.world import load_world
    >>> from arpo_envs.tools.browser import WorldSite
    >>> site = BlockedSite(WorldSite(load_world(2)), ["world.example"])
    >>> site.fetch("https://world.example/country-FR", timeout=1.0)
    PageError(text='pages of world.example are blocked here. Use other pages')
    """

    def __init__(self, source: PageSource, domains: Sequence[str]) -> None:
        self.source, self.domains = source, ascii_names(domains)
        if not self.domains:
            raise ConfigError("There is no domain to block. Use the source as it is.")

    @property
    def name(self) -> str:
        """What distinguishes it from other sources."""
        return f"{self.source.name} without {', '.join(self.domains)}"

    @property
    def searches(self) -> bool:
        """Whether the source can search."""
        return self.source.searches

    @property
    def trusted(self) -> bool:
        """Whether the source's HTML is known to be harmless."""
        return self.source.trusted

    def __reduce__(self) -> tuple[type["BlockedSite"], tuple[PageSource, tuple[str, ...]]]:
        """Pickles by its arguments."""
        return type(self), (self.source, self.domains)

    def require_ready(self) -> None:
        """Raises `ConfigError` if the source cannot be asked."""
        REQUIRE_READY.of(self.source)()

    def prepare_search(self) -> None:
        """Prepares the source."""
        PREPARE_SEARCH.of(self.source)()

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns what the source has at a URL, unless the URL, or where it leads, is blocked."""
        if is_within(url, self.domains):
            return self._refusal(url)
        found = self.source.fetch(url, timeout=timeout)
        if isinstance(found, Document) and is_within(found.url, self.domains):
            return self._refusal(found.url)
        return found

    def search(self, query: str, count: int, *, timeout: float) -> list[Hit] | PageError:
        """Returns the results that are not blocked; the source is asked for more where some are."""
        asked, until = count, time.monotonic() + timeout
        allowed: list[Hit] = []
        while (left := until - time.monotonic()) > 0:
            found = self.source.search(query, asked, timeout=left)
            if isinstance(found, PageError):
                return allowed or found
            allowed = [hit for hit in found if not is_within(hit.url, self.domains)]
            if len(allowed) >= count or len(found) < asked or asked >= _MOST:
                break
            asked = min(4 * asked, _MOST)
        return allowed[:count]

    def _refusal(self, url: str) -> PageError:
        domain = next(domain for domain in self.domains if is_within(url, [domain]))
        return PageError(f"pages of {domain} are blocked here. Use other pages")
