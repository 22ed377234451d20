"""Ranks documents by their words: those whose title is the query first, then what BM25 ranks best."""

from collections.abc import Iterable, Sequence

from ...progress import shown
from ...tasks.text import plain, words
from ...tasks.world import Document, cache_directory
from .engines import ENGINES, Engine, kept_engine
from .titles import Titles, name_of

_MAX_WORDS = 32
"""Words of a query that count: a model may paste a whole page."""
_KEPT = 5000
"""From this many documents on, an index is kept on disk if its corpus has a key: a smaller one takes less than 0.1 s."""

_LONG = 50_000
"""Documents that take some seconds to index."""


class WordRanking:
    """Ranks documents by their titles and an engine.

    Args:
        documents: what can be found.
        key: a name for their content, under which the index is kept on disk; None to keep none.
        engine: "tantivy" or "sqlite".

    Attributes:
        identity: what ranks, with its version.
    """

    def __init__(self, documents: Sequence[Document], key: str | None, engine: str) -> None:
        self._documents = documents
        self.identity = ENGINES[engine].identity(len(documents))
        if key is None or len(documents) < _KEPT:
            self._engine: Engine = ENGINES[engine](None, documents)
            self._titles = Titles.of(document.title for document in documents)
            return
        folder = cache_directory()
        self._engine = kept_engine(engine, folder / f"index-{key}-{self.identity}", self._told)
        titles = Titles.kept(folder / f"titles-{key}.npy")
        if titles is None:
            titles = Titles.of(document.title for document in documents)
            titles.keep(folder / f"titles-{key}.npy")
        self._titles = titles

    def _told(self) -> Iterable[Document]:
        """Yields the documents, and shows how far it is if that takes longer than a few seconds."""
        return shown(self._documents, len(self._documents), "Indexing documents, once", long=_LONG)

    def rank(self, queries: Sequence[str], count: int) -> list[list[int]]:
        """Returns for each query the numbers of at most `count` documents, the best first."""
        return [self._ranked(query, count) for query in queries]

    def _ranked(self, query: str, count: int) -> list[int]:
        spelt = plain(query).casefold().strip()
        name = name_of(query)
        called = [number for number in self._titles.candidates(name) if name_of(self._documents[number].title) == name]
        numbers = sorted(called, key=lambda number: plain(self._documents[number].title).casefold().strip() != spelt)[:count]
        wanted = list(dict.fromkeys(words(query)))
        if wanted and len(numbers) < count:
            ranked = self._engine.rank(wanted[:_MAX_WORDS], count + len(numbers))
            numbers += [number for number in ranked if number not in numbers]
        return numbers[:count]
