"""The browser tool: the functions that open models were trained to browse with, over any source of pages."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...errors import CloneError, ConfigError, unknown_name
from ...forking import ForkLevel
from ...members import PREPARE_SEARCH, REQUIRE_READY
from ...tasks import Task
from .. import Session, ToolResult
from ..cache import Answers
from ..spec import ToolSpec
from .conversion import SOURCE_PREFIX, read, results_page
from .display import VIEW_TOKENS, Count, UsageError, count_words, found_in, shortened, view
from .page import Page
from .recorded import asked_through, converter, forked, is_replayed, placed, reseed
from .sources import PageError, PageSource
from .specs import BACK, FIND, OPEN, SEARCH
from .state import BrowserState

ADDRESSES = ("any", "known")
_SCROLL_BACK = 4


class BrowserTool:
    """Pages to search, open and look through: `browser.search`, `browser.open`, `browser.find`.

    Args:
        source: where pages come from.
        search: offer `browser.search`; None offers it where the source can search.
        search_name: what the model calls it.
        back: offer `browser.back`, which is not part of the protocol.
        addresses: URLs that may be opened besides links: "any", or "known" for the task's start page and pages that were
            opened before.
        results: how many results a search shows at most.
        view_tokens: how many tokens a view shows, unless the model asks for a number of lines.
        count: how many tokens a line has; by default its words.
        readable: show only the readable text of pages, with trafilatura, and of its links those within that text.

    Raises:
        ConfigError: an argument is out of range, the source cannot search, or trafilatura is not installed.
    """

    fork_level = ForkLevel.EXACT

    def __init__(
        self,
        source: PageSource,
        *,
        search: bool | None = None,
        search_name: str = SEARCH.name,
        back: bool = False,
        addresses: str = "any",
        results: int = 20,
        view_tokens: int = VIEW_TOKENS,
        count: Count = count_words,
        readable: bool = False,
    ) -> None:
        if addresses not in ADDRESSES:
            raise unknown_name("addresses", addresses, ADDRESSES)
        if search and not source.searches:
            raise ConfigError(f"{source.name} cannot search. Leave search=True out, or use a source that can.")
        if min(results, view_tokens) < 1:
            raise ConfigError(f"results and view_tokens must be at least 1, got {results} and {view_tokens}.")
        if readable and find_spec("trafilatura") is None:
            raise ConfigError("readable=True needs trafilatura: pip install 'arpo-envs[browse]'")
        self.source, self.back, self.addresses, self.readable = source, back, addresses, readable
        self.search = source.searches if search is None else search
        self.search_name = search_name
        self.results, self.view_tokens, self.count = results, view_tokens, count
        self.answers: tuple[Answers, ...] = ()

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another browser: see `ToolEnv.identity`."""
        readable = "/readable" if self.readable else ""
        return f"{self.source.name}/{self.addresses}/{self.results}/{self.view_tokens}{readable}"

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The functions that are offered."""
        return (*([replace(SEARCH, name=self.search_name)] if self.search else []), OPEN, FIND, *([BACK] if self.back else []))

    def open(self, task: Task, rng: np.random.Generator) -> "BrowserSession":
        """Starts a session in which nothing is shown yet.

        A task may name its start page as `meta["start"]`; `browser.open` without arguments opens it then.

        Raises:
            ConfigError: the source cannot be asked, and nobody answers for it alone.
        """
        if not is_replayed(self.answers):
            self.require_ready()
        return BrowserSession(self, str(task.meta.get("start") or ""), placed(self.source, self.answers, task, rng))

    def require_ready(self) -> None:
        """Raises `ConfigError` if the source cannot be asked; one that is searched prepares for it."""
        REQUIRE_READY.of(self.source)()
        if self.search:
            PREPARE_SEARCH.of(self.source)()

    def answered(self, answers: Answers) -> "BrowserTool":
        """Returns the tool with its source asked through `answers`; what was shown stays its sessions' own.

        Raises:
            ConfigError: there is a credential in the source's name.
        """
        return asked_through(self, answers)


class BrowserSession:
    """A browser in one episode.

    Args:
        tool: what it was opened by.
        start: the URL of the task's start page, if it has one.
        source: where its pages come from.
        state: what was shown so far.
    """

    def __init__(self, tool: BrowserTool, start: str, source: PageSource, state: BrowserState | None = None) -> None:
        self.tool, self.start, self.source = tool, start, source
        self.state = BrowserState() if state is None else state

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns `n` sessions in the same state, which never changes itself."""
        return [BrowserSession(self.tool, self.start, forked(self.source), self.state) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        """Draws nothing from it: only pages that are answered depend on the place of a fork."""
        reseed(self.source, seed)

    def close(self) -> None:
        """Does nothing: there is nothing to free."""

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Runs one function; what the model did wrong is the result, and changes nothing."""
        run = {self.tool.search_name: self._search, OPEN.name: self._open, FIND.name: self._find, BACK.name: self._back}[name]
        try:
            state, first, lines = run(arguments, timeout)
            text = view(state.page(), state.cursor, first, lines, count=self.tool.count, limit=self.tool.view_tokens)
        except UsageError as error:
            return ToolResult(str(error), error="not_found")
        self.state = state
        return ToolResult(text)

    # --- each function returns the new state, and the first line and number of lines to show -----------------

    def _search(self, arguments: Mapping[str, Any], timeout: float) -> tuple[BrowserState, int, int]:
        query, count = str(arguments["query"]), _integer(arguments, "topn", 10)
        hits = self.source.search(query, min(max(count, 1), self.tool.results), timeout=timeout)
        if isinstance(hits, PageError):
            raise UsageError(f"Error during search for `{query}`: {shortened(hits.text)}")
        return self.state.showing(results_page(query, hits)), 0, -1

    def _open(self, arguments: Mapping[str, Any], timeout: float) -> tuple[BrowserState, int, int]:
        first, lines = _integer(arguments, "loc", -1), _integer(arguments, "num_lines", -1)
        cursor, raw = _integer(arguments, "cursor", -1), arguments.get("view_source", False) is True
        address = arguments.get("id", -1)
        if address == -1 and not self.state.pages:
            address = self.start or address
        if isinstance(address, str):
            self._require_known(address)
            page, place, clicks = self._fetched(address, raw, timeout), -1, 0
        else:
            page, place, clicks = self._from_view(self.state.page(cursor), _integer(arguments, "id", -1), raw, timeout)
        if first < 0:
            first = place - _SCROLL_BACK if place > _SCROLL_BACK else max(place, 0)
        return self.state.showing(page, clicks=clicks), first, lines

    def _from_view(self, page: Page, link: int, raw: bool, timeout: float) -> tuple[Page, int, int]:
        """Returns the page behind a link or the page itself, the line to begin at (-1: any), and the number of clicks."""
        if link < 0:
            return (self._fetched(page.url.removeprefix(SOURCE_PREFIX), True, timeout) if raw else page), -1, 0
        if link >= len(page.links):
            raise UsageError(f"Invalid link id `{link}`.")
        url = page.links[link]
        known = None if raw else self.state.known(url)
        place = page.places[link] if page.places is not None and not raw else -1
        clicks = 0 if page.places is not None and page.url else 1  # a match of `find` is in the same page
        return known or self._fetched(url, raw, timeout), place, clicks

    def _find(self, arguments: Mapping[str, Any], timeout: float) -> tuple[BrowserState, int, int]:
        page = self.state.page(_integer(arguments, "cursor", -1))
        if page.places is not None:
            raise UsageError("Cannot run `find` on search results page or find results page")
        return self.state.showing(found_in(page, str(arguments["pattern"]))), 0, -1

    def _back(self, arguments: Mapping[str, Any], timeout: float) -> tuple[BrowserState, int, int]:
        return self.state.back(), 0, -1

    def _require_known(self, url: str) -> None:
        if self.tool.addresses == "known" and url.removeprefix(SOURCE_PREFIX) != self.start and self.state.known(url) is None:
            raise UsageError(
                f"Error fetching URL `{shortened(url)}`: only the start page and pages that were opened before can be opened "
                "by their URL here. Open the links of a page by their ids."
            )

    def _fetched(self, url: str, raw: bool, timeout: float) -> Page:
        raw, url = raw or url.startswith(SOURCE_PREFIX), url.removeprefix(SOURCE_PREFIX)
        found = read(self.source, url, timeout=timeout, raw=raw, readable=self.tool.readable, convert=converter(self.source))
        if isinstance(found, PageError):
            raise UsageError(f"Error fetching URL `{shortened((SOURCE_PREFIX if raw else '') + url)}`: {shortened(found.text)}")
        return found


def _integer(arguments: Mapping[str, Any], name: str, default: int) -> int:
    value = arguments.get(name, default)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"`{name}` should be an integer, not `{type(value).__name__}`")
    return value
