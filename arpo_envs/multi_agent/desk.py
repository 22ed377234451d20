"""What the solver works at: it searches for pages by title, and asks a reader about one of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import CloneError, ConfigError
from ..forking import ForkLevel
from ..members import PREPARE_SEARCH, REQUIRE_READY
from ..tasks import Task
from ..tools import Session, ToolResult
from ..tools.browser import Hit, PageError, PageSource, asked_through, forked, is_replayed, placed, reseed
from ..tools.cache import Answers
from ..tools.spec import ToolSpec

SEARCH = ToolSpec(
    "search",
    "Searches for pages; shows their titles as 【id†title】.",
    {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "what to look for"}},
        "required": ["query"],
    },
)
READ = ToolSpec(
    "read",
    "Asks the reader about a page: it sees the page and your question, and answers with a note.",
    {
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "what to look for on the page"},
            "id": {
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "default": 0,
                "description": "the page: an id in the last search's results, or a URL as a string",
            },
        },
        "required": ["question"],
    },
)
_MARKS = str.maketrans({"【": "〖", "】": "〗", "†": "‡", "\n": " ", "\r": " "})


class Desk:
    """The tools `search` and `read`, which share what the last search found.

    Args:
        source: where pages come from; it must be able to search.
        results: titles that one search shows at most.

    Raises:
        ConfigError: the source cannot search, or `results` is below 1.
    """

    fork_level = ForkLevel.EXACT
    specs = (SEARCH, READ)

    def __init__(self, source: PageSource, *, results: int = 5) -> None:
        if not source.searches:
            raise ConfigError(f"{source.name} cannot search, and the solver has no other way to pages. Use a source that can.")
        if results < 1:
            raise ConfigError(f"results must be at least 1, got {results}.")
        self.source, self.results = source, results
        self.answers: tuple[Answers, ...] = ()

    @property
    def identity(self) -> str:
        """What distinguishes this desk from another: see `ToolEnv.identity`."""
        return f"{self.source.name}/{self.results}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Desk":
        """Returns itself: nothing in it ever changes."""
        return self

    def open(self, task: Task, rng: np.random.Generator) -> "DeskSession":
        """Starts a session in which nothing was searched for.

        Raises:
            ConfigError: the source cannot be asked, and nobody answers for it alone.
        """
        if not is_replayed(self.answers):
            self.require_ready()
        return DeskSession(self, placed(self.source, self.answers, task, rng))

    def require_ready(self) -> None:
        """Raises `ConfigError` if the source cannot be asked; it prepares for searches."""
        REQUIRE_READY.of(self.source)()
        PREPARE_SEARCH.of(self.source)()

    def answered(self, answers: Answers) -> "Desk":
        """Returns the desk with its searches asked through `answers`.

        Raises:
            ConfigError: there is a credential in the source's name.
        """
        return asked_through(self, answers)


class DeskSession:
    """A desk in one episode.

    Args:
        desk: what it was opened by.
        source: where it searches.
        hits: what the last search found.
        note: what the next `read` returns.
    """

    def __init__(self, desk: Desk, source: PageSource, hits: tuple[Hit, ...] = (), note: ToolResult | None = None) -> None:
        self.desk, self.source, self.hits, self.note = desk, source, hits, note

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns `n` sessions in the same state, whose parts never change."""
        return [DeskSession(self.desk, forked(self.source), self.hits, self.note) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        """Draws nothing from it: only searches that are answered depend on the place of a fork."""
        reseed(self.source, seed)

    def close(self) -> None:
        """Does nothing: there is nothing to free."""

    def deliver(self, note: ToolResult) -> None:
        """Lays down what the next `read` returns."""
        self.note = note

    def address(self, arguments: Mapping[str, Any]) -> str | ToolResult:
        """Returns the URL that a `read` is about, or what the solver is told instead."""
        wanted = arguments.get("id", 0)
        if isinstance(wanted, str):
            return wanted
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            return ToolResult("`id` must be an id in the results of a search, or a URL as a string.", error="bad_arguments")
        if not self.hits:
            return ToolResult("There are no search results to read: search first.", error="not_found")
        if not 0 <= wanted < len(self.hits):
            return ToolResult(f"There is no result {wanted}; the last search has 0 to {len(self.hits) - 1}.", error="not_found")
        return self.hits[wanted].url

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Searches, or returns the note that was delivered; what the model did wrong is the result."""
        if name == SEARCH.name:
            return self._search(str(arguments["query"]), timeout)
        note, self.note = self.note, None
        return note or ToolResult("Nobody has read the page.", error="no_note")

    def _search(self, query: str, timeout: float) -> ToolResult:
        found = self.source.search(query, self.desk.results, timeout=timeout)
        if isinstance(found, PageError):
            return ToolResult(f"The search failed: {found.text}", error="search_failed")
        self.hits = tuple(found[: self.desk.results])
        titles = [f"【{number}†{hit.title.translate(_MARKS)}】" for number, hit in enumerate(self.hits)]
        return ToolResult("\n".join(titles) or "Nothing was found. Try other words.")
