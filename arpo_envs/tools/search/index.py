"""A corpus made searchable, once per process.

The index is read-only, shared by all environments and safe to use from several threads. `tantivy` serves it where
installed, otherwise SQLite's FTS5; an exact title comes first with either.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

from ...members import CORPUS_KEY
from ...progress import shown
from ...tasks.text import plain, words
from ...tasks.world import Corpus, Document, cache_directory
from .engines import ENGINES, Engine, kept_engine
from .titles import Titles, name_of

_MAX_LENGTH = 4000
_MAX_WORDS = 32
"""Letters and words of a query that count: a model may paste a whole page."""
_KEPT = 5000
"""From this many documents on, an index is kept on disk if its corpus has a key: a smaller one takes less than 0.1 s."""

_LONG = 50_000
"""Documents that take some seconds to index."""


class Index:
    """A corpus made searchable: documents whose title is the query first, then what the engine ranks best.

    Args:
        corpus: what can be found.
        engine: "tantivy" or "sqlite".

    Attributes:
        engine_identity: what ranks, with its version.
        digest: tells these documents from others, whatever they are called.
    """

    def __init__(self, corpus: Corpus, engine: str) -> None:
        self.documents = corpus.documents()
        self.engine_identity = ENGINES[engine].identity()
        key = CORPUS_KEY.of(corpus)()
        self.digest = key or _digest(self.documents)
        if key is None or len(self.documents) < _KEPT:
            self._engine: Engine = ENGINES[engine](None, self.documents)
            self._titles = Titles.of(document.title for document in self.documents)
            return
        folder = cache_directory()
        self._engine = kept_engine(engine, folder / f"index-{key}-{self.engine_identity}", self._told)
        titles = Titles.kept(folder / f"titles-{key}.npy")
        if titles is None:
            titles = Titles.of(document.title for document in self.documents)
            titles.keep(folder / f"titles-{key}.npy")
        self._titles = titles

    def _told(self) -> Iterable[Document]:
        """Yields the documents, and shows how far it is if that takes longer than a few seconds."""
        return shown(self.documents, len(self.documents), "Indexing documents, once", long=_LONG)

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
        name = name_of(query)
        called = [number for number in self._titles.candidates(name) if name_of(self.documents[number].title) == name]
        numbers = sorted(called, key=lambda number: plain(self.documents[number].title).casefold().strip() != spelt)[:count]
        wanted = list(dict.fromkeys(words(query)))
        if wanted and len(numbers) < count:
            ranked = self._engine.rank(wanted[:_MAX_WORDS], count + len(numbers))
            numbers += [number for number in ranked if number not in numbers]
        return numbers[:count]


def _digest(documents: Iterable[Document]) -> str:
    found = blake2b(digest_size=16)
    for document in documents:
        found.update(repr((document.title, document.text)).encode("ascii", "backslashreplace"))
    return found.hexdigest()


@lru_cache(maxsize=8)
def index_of(corpus: Corpus, engine: str) -> Index:
    """Returns the index of a corpus, built once per process and shared.

    Args:
        corpus: what to search; equal corpora share one index.
        engine: "tantivy" or "sqlite".
    """
    return Index(corpus, engine)
