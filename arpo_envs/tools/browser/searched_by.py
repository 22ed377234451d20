"""A search engine of the web in front of a source of pages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...members import REQUIRE_READY
from .sources import Document, Hit, PageError, PageSource

if TYPE_CHECKING:
    from ..search import LiveEngine, LiveSearchTool


@dataclass(frozen=True)
class SearchedBy:
    """Pages of one source, found by an engine of `arpo_envs.tools.search`.

    Args:
        engine: a `LiveEngine`, its name (`LIVE_ENGINES`) or the path of a JSON file that describes one, or a `LiveSearchTool`.
        pages: where the pages are, such as a `LiveSite`.

    Raises:
        ConfigError: the engine is unknown, or httpx is not installed.
    """

    engine: "LiveEngine | LiveSearchTool | str | Path"
    pages: PageSource
    tool: "LiveSearchTool" = field(init=False, compare=False, repr=False)

    searches = True

    def __post_init__(self) -> None:
        """Makes the tool that asks the engine."""
        from ..search import LiveSearchTool

        tool = self.engine if isinstance(self.engine, LiveSearchTool) else LiveSearchTool(self.engine)
        object.__setattr__(self, "tool", tool)

    @property
    def name(self) -> str:
        """What distinguishes it from other sources."""
        return f"{self.pages.name} searched by {self.tool.identity}"

    @property
    def trusted(self) -> bool:
        """Whether the pages are."""
        return self.pages.trusted

    def require_ready(self) -> None:
        """Raises `ConfigError` if the engine's key is not in the environment, or the pages cannot be had."""
        self.tool.require_ready()
        REQUIRE_READY.of(self.pages)()

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns what the pages' own source has at a URL."""
        return self.pages.fetch(url, timeout=timeout)

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        """Returns what the engine finds that has an address.

        Raises:
            ToolFault: the engine is gone, refuses, or answers something else.
        """
        found = self.tool.find(query, count, timeout=timeout)
        if found is None:
            return PageError(f"timed out after {timeout:g} s")
        return [Hit(each.link, each.title or each.link, each.text) for each in found if each.link]
