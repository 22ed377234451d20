"""A ledger in a database: docs/add-a-tool.md."""

import sqlite3
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from arpo_envs import CloneError, ForkLevel, Session, Task, ToolResult, ToolSpec

LEDGER = ToolSpec(
    "ledger",
    "Runs a statement on a table entry(id, amount), which is empty at first.",
    {"type": "object", "properties": {"sql": {"type": "string"}}, "required": ["sql"]},
    examples=(
        {"sql": "insert into entry(amount) values (3)"},
        {"sql": "select last_insert_rowid(), sum(amount) from entry"},
        {"sql": "delete from entry where id = 1"},
    ),
)
FOR_EVER = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


class Book:
    """One ledger in one episode."""

    def __init__(self, source: "Book | None" = None) -> None:
        self.connection = self.connected()
        if source is None:
            self.connection.execute("create table entry(id integer primary key, amount integer)")
        else:
            source.connection.backup(self.connection)
            self.remember(source)

    def connected(self) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)

    def remember(self, source: "Book") -> None:
        """Gives the copy what only a connection knows: the last id that was inserted."""
        (last,) = source.connection.execute("select last_insert_rowid()").fetchone()
        if last:
            self.connection.execute("begin")
            self.connection.execute("create temp table memory(id integer primary key)")
            self.connection.execute("insert into memory(id) values (?)", (last,))
            self.connection.execute("drop table memory")
            self.connection.execute("commit")

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        end = time.monotonic() + timeout
        self.connection.set_progress_handler(lambda: self.is_late(end), 1000)
        try:
            rows = self.connection.execute(arguments["sql"]).fetchall()
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                return ToolResult("It took too long: ask for less.", error="timeout")
            return ToolResult(f"{error}. The table is entry(id, amount).", error="sql")
        except (sqlite3.Error, sqlite3.Warning, ValueError, UnicodeError) as error:
            return ToolResult(f"{error}. Write one statement.", error="sql")
        return ToolResult("\n".join(", ".join(map(str, row)) for row in rows) or "done")

    def is_late(self, end: float) -> bool:
        return time.monotonic() > end

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [type(self)(self) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        """Draws nothing."""

    def close(self) -> None:
        self.connection.close()


class Ledger:
    """Opens a book for each episode.

    Args:
        book: class of the sessions.
    """

    specs = (LEDGER,)
    fork_level = ForkLevel.EXACT

    def __init__(self, book: type[Book] = Book) -> None:
        self.book = book

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        return self.book()
