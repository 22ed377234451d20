"""A corpus made searchable, once per process.

The index is read-only, shared by all environments and safe to use from several threads. `tantivy` serves it where
installed, otherwise SQLite's FTS5; an exact title comes first with either.
"""

from functools import lru_cache

from ...tasks.text import fold, plain, words
from ...tasks.world import Corpus, Document, World, cache_directory
from .engines import ENGINES, Engine, kept_engine

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
        query = query[:_MAX_LENGTH]
        spelt = plain(query).casefold().strip()
        called = self._titles.get(_name(query), [])
        numbers = sorted(called, key=lambda number: plain(self.documents[number].title).casefold().strip() != spelt)[:count]
        wanted = list(dict.fromkeys(words(query)))
        if wanted and len(numbers) < count:
            ranked = self._engine.rank(wanted[:_MAX_WORDS], count + len(numbers))
            numbers += [number for number in ranked if number not in numbers]
        return [self.documents[number] for number in numbers[:count]]


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
