"""A corpus made searchable, once per process.

The index is read-only, shared by all environments and safe to use from several threads. `tantivy` serves it where
installed, otherwise SQLite's FTS5; an exact title comes first with either. Or vectors do, by a model of the user's.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

from ...members import CORPUS_KEY
from ...tasks.world import Corpus, Document
from .dense import DenseEngine, VectorRanking, dense_engine, is_dense
from .engines import chosen_engine
from .words import WordRanking

_MAX_LENGTH = 4000
"""Letters of a query that count: a model may paste a whole page."""


class Ranking(Protocol):
    """Ranks the documents of a corpus.

    Attributes:
        identity: what ranks, with its version; "" if nobody can say.
    """

    identity: str

    def rank(self, queries: Sequence[str], count: int) -> list[list[int]]:
        """Returns for each query the numbers of at most `count` documents, the best first."""
        ...


class Index:
    """A corpus made searchable.

    Args:
        corpus: what can be found.
        engine: "tantivy", "sqlite", "dense:package.module:object" or a `DenseEngine`.

    Raises:
        ConfigError: the embedder cannot be found, or cannot be used.

    Attributes:
        engine_identity: what ranks, with its version; "" if nobody can say.
        digest: tells these documents from others, whatever they are called.
    """

    def __init__(self, corpus: Corpus, engine: str | DenseEngine) -> None:
        self.documents = corpus.documents()
        key = CORPUS_KEY.of(corpus)()
        self.digest = key or _digest(self.documents)
        self._ranking: Ranking
        if isinstance(engine, DenseEngine) or is_dense(engine):
            self._ranking = VectorRanking(self.documents, key, dense_engine(engine))
        else:
            self._ranking = WordRanking(self.documents, key, engine)
        self.engine_identity = self._ranking.identity

    def search(self, query: str, count: int) -> list[Document]:
        """Returns at most `count` documents, the best first.

        Args:
            query: any text. For words, case, accents and punctuation do not matter, but of titles that differ only in accents
                or punctuation (C, C++) the one spelt as in the query comes first.
            count: how many documents at most.

        Raises:
            ToolFault: the engine is a model of the user's, and fails.
        """
        return self.search_all([query], count)[0]

    def search_all(self, queries: Sequence[str], count: int) -> list[list[Document]]:
        """Returns what `search` finds for each query; a model sees them all at once."""
        ranked = self._ranking.rank([query[:_MAX_LENGTH] for query in queries], count)
        return [[self.documents[number] for number in numbers] for numbers in ranked]

    def numbers(self, query: str, count: int) -> list[int]:
        """Returns the numbers of what `search` finds, in the corpus's order from 0."""
        return self._ranking.rank([query[:_MAX_LENGTH]], count)[0]


def _digest(documents: Iterable[Document]) -> str:
    found = blake2b(digest_size=16)
    for document in documents:
        found.update(repr((document.title, document.text)).encode("ascii", "backslashreplace"))
    return found.hexdigest()


@lru_cache(maxsize=8)
def index_of(corpus: Corpus, engine: str | DenseEngine) -> Index:
    """Returns the index of a corpus, built once per process and shared.

    Args:
        corpus: what to search; equal corpora share one index.
        engine: see `Index`; "auto" is the first of the first two that is installed.

    Raises:
        ConfigError: there is no such engine, or it is not installed.
    """
    chosen = chosen_engine(engine)
    return Index(corpus, engine) if chosen == engine else index_of(corpus, chosen)
