"""A search engine over a fixed corpus, in process: no server, no download.

The index is read-only, shared by all environments and safe to use from several threads. `tantivy`
serves it where installed, otherwise SQLite's FTS5; an exact title comes first with either.
"""

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..errors import ConfigError, unknown_name
from ..tasks.text import fold, plain, words
from ..tasks.world import Corpus, Document, World, cache_directory
from . import Stateless, ToolResult
from .search_engines import ENGINES, Engine, kept_engine
from .spec import ToolSpec

SPEC = ToolSpec(
    name="search",
    description="Searches a collection of documents and returns those that fit best.",
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string", "description": "what to look for, best the name of one thing"}},
        "required": ["query"],
    },
)

MAX_RESULTS = 50
_MAX_LENGTH = 4000
_MAX_WORDS = 32
"""Letters and words of a query that count: a model may paste a whole page."""
_KEPT = 5000
"""From this many documents on, the built-in world's index is kept on disk: a smaller one takes less than 0.1 s to make."""


class Index:
    """A corpus made searchable: documents whose title is the query first, then what the engine ranks best.

    Args:
        corpus: what can be found.
        engine: "tantivy" or "sqlite".
    """

    def __init__(self, corpus: Corpus, engine: str) -> None:
        self.documents = corpus.documents()
        self._titles: dict[str, list[int]] = {}
        for number, document in enumerate(self.documents):
            self._titles.setdefault(_name(document.title), []).append(number)
        self._engine: Engine
        if isinstance(corpus, World) and len(self.documents) >= _KEPT:
            folder = cache_directory() / f"index-{corpus.key()}-{ENGINES[engine].identity()}"
            self._engine = kept_engine(engine, folder, corpus.documents)
        else:
            self._engine = ENGINES[engine](None, self.documents)

    def search(self, query: str, count: int) -> list[Document]:
        """Returns at most `count` documents, the best first.

        Args:
            query: any text; case, accents and punctuation do not matter, but of titles that differ only in accents or
                punctuation (C, C++) the one spelt as in the query comes first.
            count: how many documents at most.
        """
        return [self.documents[number] for number in self.numbers(query, count)]

    def numbers(self, query: str, count: int) -> list[int]:
        """Returns the numbers of what `search` finds, in the corpus's order from 0."""
        query = query[:_MAX_LENGTH]
        spelt = plain(query).casefold().strip()
        called = self._titles.get(_name(query), [])
        numbers = sorted(called, key=lambda number: plain(self.documents[number].title).casefold().strip() != spelt)[:count]
        wanted = list(dict.fromkeys(words(query)))
        if wanted and len(numbers) < count:
            ranked = self._engine.rank(wanted[:_MAX_WORDS], count + len(numbers))
            numbers += [number for number in ranked if number not in numbers]
        return numbers[:count]


def _name(text: str) -> str:
    """Returns the form in which titles are compared: the words, or the symbols if there are no words (the band "!!!")."""
    return fold(text) or plain(text).strip()


@lru_cache(maxsize=8)
def index_of(corpus: Corpus, engine: str) -> Index:
    """Returns the index of a corpus, built once per process and shared.

    Args:
        corpus: what to search; equal corpora share one index.
        engine: "tantivy" or "sqlite".
    """
    return Index(corpus, engine)


class SearchTool(Stateless):
    """The tool `search`: the texts of the best documents, one per line.

    Args:
        corpus: what can be found.
        results: how many documents a call returns, 1 to 50.
        engine: "tantivy", "sqlite", or "auto" for the first of them that is installed.

    Raises:
        ConfigError: an argument is unknown, or out of range.

    >>> from arpo_envs.tasks.world import load_world
    >>> tool = SearchTool(load_world(2), results=1)
    >>> tool.call("search", {"query": "paris"}, timeout=1.0).text[:21]
    'Paris: city in France'
    """

    def __init__(self, corpus: Corpus, *, results: int = 3, engine: str = "auto") -> None:
        if engine not in ("auto", *ENGINES):
            raise unknown_name("engine", engine, ("auto", *ENGINES))
        if not 1 <= results <= MAX_RESULTS:
            raise ConfigError(f"results must lie in 1..{MAX_RESULTS}, got {results}.")
        installed = importlib.util.find_spec("tantivy") is not None
        if engine == "tantivy" and not installed:
            raise ConfigError("The engine 'tantivy' is not installed. Install it (pip install tantivy) or use engine='sqlite'.")
        if engine == "auto":
            engine = "tantivy" if installed else "sqlite"
        self.corpus, self.results, self.engine = corpus, results, engine
        self.index = index_of(corpus, engine)

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another `search`: see `ToolEnv.identity`."""
        return f"{self.corpus.name}/{self.results}"

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The one name `search`."""
        return (SPEC,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by reference: the index is built again, and shared, on the other side."""
        return _rebuilt, (type(self), self.corpus, self.results, self.engine)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SearchTool":
        """Returns itself: nothing in it ever changes."""
        return self

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Searches once; a query that finds nothing is not an error, and the result says so."""
        query = str(arguments["query"])
        found = self.index.search(query, self.results)
        if not found:
            shown = query if len(query) <= 80 else f"{query[:80]}…"
            return ToolResult(f"No results for {shown!r}: try another name.")
        return ToolResult("\n".join(document.text for document in found))


def _rebuilt(kind: type[SearchTool], corpus: Corpus, results: int, engine: str) -> SearchTool:
    return kind(corpus, results=results, engine=engine)
