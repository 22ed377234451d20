"""A file of answers, safe across threads and processes: SQLite in WAL mode, written by one at a time.

An entry is never changed: the first value stored under a key stays. Values are JSON or bytes, so that reading a file runs
nothing that is in it.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from ...errors import ConfigError, ToolFault
from .flights import Flights

Value = Any
"""Bytes, or what JSON can hold."""

_APPLICATION = 0x4152504F  # "ARPO"
_FORMAT = 1
_BUSY = 60.0
"""Seconds that SQLite waits for another connection's lock."""
_TABLE = (
    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, subject BLOB NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL)"
)


@dataclass(frozen=True)
class Found:
    """An entry of a store.

    Args:
        key: under which it is stored.
        value: as it is read from the file.
    """

    key: bytes
    value: Value


class Store:
    """Answers in one file, which only its owner may read and write.

    Use it as a context manager, or call `close()`. A copy is the store itself; in another process the file is opened anew.
    The file must lie on a local disk: processes share memory beside it, which network file systems do not offer.

    Args:
        file: created if there is none; its folder exists.
        reading: only read; the file exists.

    Raises:
        ConfigError: the file cannot be opened, or is something else.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "answers.sqlite") as store:
    ...     first = store.settle(b"subject", {"text": "one"}, at=b"key")
    ...     second = store.settle(b"subject", {"text": "two"}, at=b"key")
    ...     store.find(b"other", b"key") == first == second
    True
    """

    def __init__(self, file: Path | str, *, reading: bool = False) -> None:
        self.file, self.reading = Path(file).absolute(), reading
        self._closed = False
        self._connected: _Connected | None = None
        self._inherited: list[_Connected] = []  # of the process that forked this one: closing them would harm it
        self._here()

    @property
    def flights(self) -> Flights[Any]:
        """The calls of this process that are under way, whatever tool of whatever environment makes them."""
        return self._here().flights

    def find(self, *keys: bytes) -> Found | None:
        """Returns the entry of the first of the keys that has one, all looked up at one moment.

        Raises:
            ToolFault: the file cannot be read.
        """
        here = self._here()
        with here.lock, self._blame("read"):
            return _first(here.connection, keys)

    def settle(self, subject: bytes, value: Value, *, at: bytes, unless: bytes | None = None) -> Found:
        """Stores a value, unless there is an entry already; returns the entry that counts from now on.

        Args:
            subject: what was asked, for `knows`.
            value: bytes or JSON.
            at: the key to store it under.
            unless: another key whose entry counts instead, if there is one.

        Raises:
            ToolFault: the file cannot be written.
        """
        kind, encoded = _encoded(value)
        here = self._here()
        with here.lock, self._blame("written"), _alone(self.file), _transaction(here.connection):
            found = _first(here.connection, (at,) if unless is None else (at, unless))
            if found is not None:
                return found
            here.connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (at, subject, kind, encoded))
        return Found(at, _decoded(kind, encoded))

    def knows(self, subject: bytes) -> bool:
        """Whether anything was stored about a subject."""
        here = self._here()
        with here.lock, self._blame("read"):
            return bool(
                here.connection.execute("SELECT EXISTS (SELECT 1 FROM entries WHERE subject = ?)", (subject,)).fetchone()[0]
            )

    def __len__(self) -> int:
        """Returns the number of entries."""
        here = self._here()
        with here.lock, self._blame("read"):
            return int(here.connection.execute("SELECT COUNT(*) FROM entries").fetchone()[0])

    def close(self) -> None:
        """Merges what SQLite keeps beside the file into it, if no other process uses it; harmless when called twice."""
        self._closed = True
        here, self._connected = self._connected, None
        if here is not None and here.process == os.getpid():
            is_shared = here.writable and self.file.parent.is_dir()  # else nobody else can be at it
            with here.lock, _alone(self.file) if is_shared else contextlib.nullcontext():
                here.connection.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes it."""
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Store":
        """Returns itself: all copies of a tool share their answers."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by name: the file is opened again on the other side."""
        return _reopened, (self.file, self.reading)

    def _here(self) -> "_Connected":
        """Returns this process's own connection: one that was opened before a fork must not be used after it."""
        if self._closed:
            raise ToolFault(f"{self.file.name} was closed.")
        here = self._connected
        if here is None or here.process != os.getpid():
            if here is not None:
                self._inherited.append(here)
            here = self._connected = _opened(self.file, self.reading)
        return here

    @contextlib.contextmanager
    def _blame(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ToolFault(f"{self.file.name} cannot be {what}: {error}.") from error


def _reopened(file: Path, reading: bool) -> Store:
    return Store(file, reading=reading)


@dataclass(frozen=True)
class _Connected:
    process: int
    connection: sqlite3.Connection
    writable: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    flights: Flights[Any] = field(default_factory=Flights)


def _opened(file: Path, reading: bool) -> _Connected:
    """Returns a connection that all threads of this process share.

    Raises:
        ConfigError: there is no such file, it cannot be opened, or it is something else.
    """
    if reading and not file.is_file():
        raise ConfigError(f"There is no recording {file}. Give the file, or the folder of the run that made it.")
    # a recorder that was killed leaves a second file, which whoever opens the recording next merges into it
    writable = not reading or (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))
    try:
        if writable:
            with _alone(file):
                connection = _prepared(file, reading)
        else:
            connection = _unchanging(file)
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"{file} cannot be opened as a recording: {error}.") from error
    return _Connected(os.getpid(), connection, writable)


def _connection(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)


def _unchanging(file: Path) -> sqlite3.Connection:
    """Returns a connection to a file in a place where nothing can be written."""
    if (wal := Path(f"{file}-wal")).is_file() and wal.stat().st_size:
        raise ConfigError(
            f"{file} was not closed by its run. Copy it, with {wal.name}, to where you may write; then use the copy."
        )
    connection = _connection(f"file:{quote(str(file))}?mode=ro&immutable=1")
    _require_ours(connection, file, reading=True)
    return connection


def _prepared(file: Path, reading: bool) -> sqlite3.Connection:
    if not reading:
        _make_private(file)
    connection = _connection(f"file:{quote(str(file))}?mode=rw")
    try:
        _require_ours(connection, file, reading=reading)
        if reading:
            connection.execute("PRAGMA query_only = ON")
            return connection
        connection.execute(
            "PRAGMA journal_mode = WAL"
        )  # here nobody else is at it: SQLite does not wait for a turn to change this
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute(_TABLE)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(file: Path) -> None:
    """Makes sure that a file exists and only its owner may use it; SQLite gives the files beside it the same mode."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:  # it must not be opened here: closing it would drop the locks of this process's connections
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)


def _require_ours(connection: sqlite3.Connection, file: Path, *, reading: bool) -> None:
    """Refuses a database of another program or version; one without tables may still become ours.

    Raises:
        ConfigError: it is one.
    """
    application, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    is_new = not reading and not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if (application, version) != (_APPLICATION, _FORMAT) and not is_new:
        raise ConfigError(f"{file} is not a recording of this version: it is another database. Choose another file.")


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Lets one connection at a time write, merge or close, whatever its thread and process; a killed one lets go.

    SQLite before 3.51.3 may damage a file when two do so in the same instant (https://sqlite.org/wal.html#walresetbug).
    """
    lock = os.open(f"{file}-lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # on a full disk SQLite may have ended it by itself
            connection.execute("ROLLBACK")
        raise


def _first(connection: sqlite3.Connection, keys: tuple[bytes, ...]) -> Found | None:
    marks = ", ".join("?" * len(keys))
    rows = connection.execute(f"SELECT key, kind, value FROM entries WHERE key IN ({marks})", keys).fetchall()
    found = {bytes(key): (kind, value) for key, kind, value in rows}
    return next((Found(key, _decoded(*found[key])) for key in keys if key in found), None)


def _encoded(value: Value) -> tuple[str, bytes]:
    """Returns a value's kind and its bytes; JSON in ASCII keeps lone surrogates, too."""
    return ("bytes", value) if isinstance(value, bytes) else ("json", json.dumps(value).encode("ascii"))


def _decoded(kind: str, encoded: bytes) -> Value:
    return bytes(encoded) if kind == "bytes" else json.loads(encoded)
