"""The engines that rank documents for `search`: BM25 by `tantivy`, or by SQLite's FTS5.

Both index the words of `tasks.text` (no case, no accents, no punctuation), separated by spaces, and take queries as such
words, so no query syntax is ever parsed and neither engine cuts text by rules of its own. An index of a large corpus
is kept in a folder and opened from there.
"""

import importlib.util
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from ...errors import ConfigError, ToolFault, unknown_name
from ...tasks.text import fold
from ...tasks.world import Document
from .dense import NAMED, DenseEngine, is_dense

_TITLE_WEIGHT = 4.0
_MANY = 100_000
"""From this many documents on, `tantivy` looks for a query's rarest words: with fewer, even "the" takes less than 1 ms."""
_READ, _MORE, _SHORT = 1 / 8, 1 / 64, 8
"""Entries of posting lists, per document, that `_SHORT` words read to find documents; those for each further word."""
_SPARE = 40
"""Documents that are found beyond those wanted, so that a query's other words can decide between them."""
_LOOKS = 64
"""Documents that are looked at to see whether an index has them in their order."""
_MEMORY = 1_000_000_000
"""Bytes that an index may take up while it is made, enough for about two million documents; fewer take less."""

_Words = list[tuple[str, str]]
"""Fields and words in them."""


class Engine(Protocol):
    """Ranks documents for a query; every implementation breaks ties by the documents' order."""

    def rank(self, query: Sequence[str], count: int) -> list[int]:
        """Returns the numbers of at most `count` documents for the folded words of a query, the best first."""
        ...


class TantivyEngine:
    """BM25 by `tantivy`.

    In a corpus of many documents, the words that are in most of them cost nearly all of the time and say little: the weight
    ln((N - n + 0.5) / (n + 0.5)) of Robertson and Spärck Jones (1976) is negative if n of N documents, more than half, have
    the word. There, the rarest words of a query find documents, as many as fit into a budget of entries to read, and the other
    words only help to rank these. If the rarest find too few, all words do.

    Args:
        folder: a folder with an index, see `write`; None keeps a new index of `documents` in memory.
        documents: what can be found, when there is no folder.
    """

    def __init__(self, folder: Path | None, documents: Iterable[Document] = ()) -> None:
        import tantivy

        self._schema = _schema()
        if folder is None:
            self._index = tantivy.Index(self._schema)
            _fill(self._index, documents)
        else:
            self._index = tantivy.Index.open(str(folder))
        self._index.config_reader(reload_policy="manual")  # the default polls the folder from a thread of its own
        self._index.reload()
        self._searcher = self._index.searcher()
        self._query, self._should, self._must = tantivy.Query, tantivy.Occur.Should, tantivy.Occur.Must
        self._count = self._searcher.num_docs
        self._divides = self._count >= _MANY
        self._in_order = self._searcher.num_segments == 1 and self._is_in_order()

    @staticmethod
    def identity(count: int) -> str:
        """Identifies what ranks `count` documents, and what wrote a folder with them."""
        return f"tantivy-{version('tantivy')}" + ("-3" if count >= _MANY else "")

    @staticmethod
    def write(folder: Path, documents: Iterable[Document]) -> None:
        """Writes an index of `documents` into an empty folder."""
        import tantivy

        _fill(tantivy.Index(_schema(), path=str(folder)), documents)

    def rank(self, query: Sequence[str], count: int) -> list[int]:
        """Returns the best documents."""
        asked = [(field, word) for word in query for field in ("title", "body")]
        rare, common = self._divided(asked)
        scores = self._scores(self._any(rare), count + _SPARE if common else count)
        if common and len(scores) < count:
            scores = self._scores(self._any(asked), count)
        elif common:
            for number, score in self._scores(self._among(scores, common), len(scores)).items():
                scores[number] += score
        return sorted(scores, key=lambda number: (-scores[number], number))[:count]

    def _divided(self, asked: _Words) -> tuple[_Words, _Words]:
        """Returns the words that find documents and those that only rank them, in their order."""
        if not self._divides:
            return asked, []
        having = [self._searcher.doc_freq(field, word) for field, word in asked]
        most = self._count * (_READ + _MORE * max(0, len({word for _, word in asked}) - _SHORT))
        rarest = sorted(range(len(asked)), key=having.__getitem__)
        read = accumulate(having[place] for place in rarest)
        found = {place for place, entries in zip(rarest, read, strict=True) if entries <= most}
        return [asked[place] for place in sorted(found)], [each for place, each in enumerate(asked) if place not in found]

    def _scores(self, query: Any, count: int) -> dict[int, float]:
        """Returns the numbers of at most `count` documents, the best of a query, with their scores."""
        hits = self._searcher.search(query, limit=count, count=False).hits
        return {self._number(address): float(score) for score, address in hits}

    def _number(self, address: Any) -> int:
        """Returns a document's number: where it is, if that is known to be its number. Reading it takes ten times as long."""
        return int(address.doc) if self._in_order else self._stored(address)

    def _stored(self, address: Any) -> int:
        return int(self._searcher.doc(address)["number"][0])

    def _is_in_order(self) -> bool:
        """Whether documents are where their numbers say: tantivy may have merged segments, each with millions, in any order."""
        import tantivy

        places = range(0, self._count, max(1, self._count // _LOOKS))
        return all(self._stored(tantivy.DocAddress(0, place)) == place for place in places)

    def _any(self, asked: _Words) -> Any:
        """Returns a query for the documents that have any of some words."""
        return self._query.boolean_query([(self._should, self._term(field, word)) for field, word in asked])

    def _among(self, numbers: Iterable[int], asked: _Words) -> Any:
        """Returns a query for some documents, whether or not they have any of the words.

        Each word is put around the query for those before it, so that it is looked for in these documents only. A union of the
        words would be scored for thousands of documents around each of them.
        """
        query, schema = self._query, self._schema
        terms = [query.term_query(schema, "number", number, index_option="basic") for number in numbers]
        found = query.const_score_query(query.boolean_query([(self._should, term) for term in terms]), 0.0)
        for field, word in asked:
            found = query.boolean_query([(self._must, found), (self._should, self._term(field, word))])
        return found

    def _term(self, field: str, word: str) -> Any:
        term = self._query.term_query(self._schema, field, word, index_option="freq")
        return self._query.boost_query(term, _TITLE_WEIGHT) if field == "title" else term


def _schema() -> Any:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("title", tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field("body", tokenizer_name="whitespace", index_option="freq")
    builder.add_integer_field("number", stored=True, indexed=True)
    return builder.build()


def _fill(index: Any, documents: Iterable[Document]) -> None:
    import tantivy

    writer = index.writer(heap_size=_MEMORY, num_threads=1)  # one thread, one segment (see `_MEMORY`): ties keep the order
    for number, (title, text) in enumerate(documents):
        writer.add_document(tantivy.Document(title=[fold(title)], body=[fold(text)], number=[number]))
    writer.commit()
    writer.wait_merging_threads()


class SqliteEngine:
    """BM25 by SQLite's FTS5; calls from several threads take turns.

    Args:
        folder: a folder with an index, see `write`; None keeps a new index of `documents` in memory.
        documents: what can be found, when there is no folder.

    Raises:
        ToolFault: this Python's SQLite was built without FTS5.
    """

    def __init__(self, folder: Path | None, documents: Iterable[Document] = ()) -> None:
        self._lock = threading.Lock()
        address = ":memory:" if folder is None else f"{(folder / 'index.db').resolve().as_uri()}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(address, uri=True, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        if folder is None:
            _insert(self._connection, documents)
        self._connection.execute("SELECT rowid FROM documents LIMIT 1").fetchall()  # a file that is damaged is only read now

    @staticmethod
    def identity(count: int) -> str:
        """Identifies what ranks `count` documents, and what wrote a folder with them."""
        return f"sqlite-{sqlite3.sqlite_version}"

    @staticmethod
    def write(folder: Path, documents: Iterable[Document]) -> None:
        """Writes an index of `documents` into an empty folder."""
        connection = sqlite3.connect(folder / "index.db")
        _insert(connection, documents)
        connection.close()

    def rank(self, query: Sequence[str], count: int) -> list[int]:
        """Returns the best documents."""
        match = " OR ".join(f'"{word}"' for word in query)
        order = f"bm25(documents, {_TITLE_WEIGHT}, 1.0), rowid"
        with self._lock:
            rows = self._connection.execute(
                f"SELECT rowid FROM documents WHERE documents MATCH ? ORDER BY {order} LIMIT ?", (match, count)
            ).fetchall()
        return [int(row[0]) for row in rows]


def _insert(connection: sqlite3.Connection, documents: Iterable[Document]) -> None:
    rows = ((number, fold(title), fold(text)) for number, (title, text) in enumerate(documents))
    try:
        connection.execute(
            "CREATE VIRTUAL TABLE documents USING fts5(title, body, content = '', "
            """tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N*'")"""
        )
    except sqlite3.OperationalError as error:
        connection.close()
        raise ToolFault(f"SQLite has no FTS5 here ({error}). Install tantivy: pip install tantivy") from error
    with connection:
        connection.executemany("INSERT INTO documents(rowid, title, body) VALUES (?, ?, ?)", rows)


ENGINES: dict[str, type[TantivyEngine] | type[SqliteEngine]] = {"tantivy": TantivyEngine, "sqlite": SqliteEngine}


def chosen_engine(name: str | DenseEngine) -> str | DenseEngine:
    """Returns an engine that works here; "auto" is the first that is installed. Whether an embedder works shows in its index.

    Raises:
        ConfigError: there is no such engine, or it is not installed.
    """
    if isinstance(name, DenseEngine) or is_dense(name):
        return name
    if name not in ("auto", *ENGINES):
        raise unknown_name("engine", name, ("auto", *ENGINES, NAMED))
    installed = importlib.util.find_spec("tantivy") is not None
    if name == "tantivy" and not installed:
        raise ConfigError("The engine 'tantivy' is not installed. Install it (pip install tantivy) or use engine='sqlite'.")
    if name == "auto":
        return "tantivy" if installed else "sqlite"
    return name


def kept_engine(name: str, folder: Path, documents: Callable[[], Iterable[Document]]) -> Engine:
    """Returns an engine whose index is kept in `folder`, writing it first if it is not there yet.

    The index is written next to the folder and moved there in one step, so several processes may do so at once.
    Where nothing can be written, or what is there cannot be read, the index is made in memory.

    Args:
        name: "tantivy" or "sqlite".
        folder: where the index belongs.
        documents: returns what can be found, if needed.
    """
    kind = ENGINES[name]
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=folder.name))
        except OSError:
            return kind(None, documents())
        try:
            kind.write(temporary, documents())
            temporary.rename(folder)
        except (OSError, ValueError, sqlite3.Error):  # there is no room; or another process was faster: its index is the same
            if not folder.is_dir():
                return kind(None, documents())
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    try:
        return kind(folder)
    except (OSError, ValueError, sqlite3.Error):
        return kind(None, documents())
