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
from pathlib import Path
from typing import Any, Protocol

from ...errors import ConfigError, ToolFault, unknown_name
from ...tasks.text import fold
from ...tasks.world import Document
from .dense import NAMED, DenseEngine, is_dense

_TITLE_WEIGHT = 4.0


class Engine(Protocol):
    """Ranks documents for a query; every implementation breaks ties by the documents' order."""

    def rank(self, query: Sequence[str], count: int) -> list[int]:
        """Returns the numbers of at most `count` documents for the folded words of a query, the best first."""
        ...


class TantivyEngine:
    """BM25 by `tantivy`.

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
        self._query, self._should = tantivy.Query, tantivy.Occur.Should

    @staticmethod
    def identity() -> str:
        """Identifies what wrote a folder."""
        return f"tantivy-{version('tantivy')}"

    @staticmethod
    def write(folder: Path, documents: Iterable[Document]) -> None:
        """Writes an index of `documents` into an empty folder."""
        import tantivy

        _fill(tantivy.Index(_schema(), path=str(folder)), documents)

    def rank(self, query: Sequence[str], count: int) -> list[int]:
        """Returns the best documents."""
        clauses = []
        for word in query:
            title = self._query.term_query(self._schema, "title", word)
            clauses.append((self._should, self._query.boost_query(title, _TITLE_WEIGHT)))
            clauses.append((self._should, self._query.term_query(self._schema, "body", word)))
        hits = self._searcher.search(self._query.boolean_query(clauses), limit=count, count=False).hits
        found = [(-float(score), int(self._searcher.doc(address)["number"][0])) for score, address in hits]
        return [number for _, number in sorted(found)]


def _schema() -> Any:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("title", tokenizer_name="whitespace")
    builder.add_text_field("body", tokenizer_name="whitespace")
    builder.add_integer_field("number", stored=True)
    return builder.build()


def _fill(index: Any, documents: Iterable[Document]) -> None:
    import tantivy

    writer = index.writer(heap_size=100_000_000, num_threads=1)  # one thread, one segment: ties keep the order
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

    @staticmethod
    def identity() -> str:
        """Identifies what wrote a folder."""
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
        kind.write(temporary, documents())
        try:
            temporary.rename(folder)
        except OSError:  # another process was faster: its index is the same
            shutil.rmtree(temporary, ignore_errors=True)
    try:
        return kind(folder)
    except (OSError, ValueError, sqlite3.Error):
        return kind(None, documents())
