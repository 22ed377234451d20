"""Rows of a local copy: JSON Lines, a JSON list, CSV or Parquet. One that cannot be read is a value, so that the next are."""

import csv
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ..lines import row_of
from ..parquet import parquet_rows

_OBJECT = '{"question": "…", "answer": "…"}'
FORMATS = (".jsonl", ".json", ".csv", ".parquet")
_LONGEST = (1 << 31) - 1
"""Characters of a cell: what a C long holds everywhere."""
_LIMIT = threading.Lock()  # or two threads would put back each other's

Row = Mapping[str, Any] | ConfigError
"""A row with its column names in lower case, or what is wrong with it."""

Found = tuple[str, Row]
"""Where a row stands, such as "line 3", and the row."""


def rows_in(path: Path) -> Iterator[Found]:
    """Yields the rows of a file; blank lines are left out.

    Raises:
        ConfigError: the file cannot be read at all.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ConfigError(f"{path}: expected a file ending in {', '.join(FORMATS)}. Convert it, or rename it.")
    read = {".jsonl": _lines, ".json": _entries, ".csv": _table, ".parquet": _records}[kind]
    try:
        for place, row in read(path):
            yield place, row if isinstance(row, ConfigError) else lower(row)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error


def lower(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns a row with its column names in lower case: published files disagree about them."""
    return {str(key).lower(): value for key, value in row.items()}


def _lines(path: Path) -> Iterator[Found]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield f"line {number}", row_of(path, number, line, _OBJECT)
            except ConfigError as error:
                yield f"line {number}", error


def _entries(path: Path) -> Iterator[Found]:
    try:
        entries = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}). Expected a list of objects, each {_OBJECT}.") from error
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: a JSON {type(entries).__name__}. Expected a list of objects, each {_OBJECT}.")
    for number, entry in enumerate(entries, start=1):
        wrong = ConfigError(f"{path}, entry {number}: a JSON {type(entry).__name__}. Expected an object: {_OBJECT}.")
        yield f"entry {number}", entry if isinstance(entry, dict) else wrong


def _table(path: Path) -> Iterator[Found]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            while (row := _next_row(reader)) is not None:
                place = f"line {reader.line_num}"
                ragged = ConfigError(f"{path}, {place}: expected {len(reader.fieldnames or ())} cells, as in the first line.")
                yield place, ragged if None in row or None in row.values() else row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}, after line {reader.line_num}: not CSV in UTF-8 ({error}).") from error


def _next_row(reader: "csv.DictReader[str]") -> dict[str | Any, str | Any] | None:
    with _cells_of_any_length():
        return next(reader, None)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Lifts the limit on a cell, which holds for the whole process, and puts back what others have set."""
    with _LIMIT:
        before = csv.field_size_limit(_LONGEST)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _records(path: Path) -> Iterator[Found]:
    for number, row in enumerate(parquet_rows(path), start=1):
        yield f"row {number}", row
