"""Reads JSON Lines files of the user's, and says where they are wrong."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError


def digest_of(path: Path) -> str:
    """Returns a digest of a file's content.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=6)).hexdigest()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error


def rows(path: Path, expected: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields the objects of a file with their line numbers; blank lines are skipped.

    Raises:
        ConfigError: the file cannot be read or is empty, or a line is not an object; the message names the line.
    """
    return ((number, row) for number, _, row in placed_rows(path, expected))


def placed_rows(path: Path, expected: str) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Does the same, with the byte at which each line begins."""
    start = 0
    empty = True
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    empty = False
                    yield number, start, row_of(path, number, line, expected, start=start)
                start += len(line)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    if empty:
        raise ConfigError(f"{path} has no lines. Expected one {expected} on each line.")


def text_of(path: Path, number: int, row: Mapping[str, Any], key: str, *, unit: str = "line") -> str:
    """Returns a text that a row must have.

    Args:
        path: of the file, for messages.
        number: of the row.
        row: what is in it.
        key: of the text.
        unit: what is numbered.

    Raises:
        ConfigError: it is missing, empty, or something else.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        got = "nothing" if key not in row else repr(value)[:60]
        raise ConfigError(f"{path}, {unit} {number}: {key!r} must be a non-empty string, got {got}.")
    return value


def row_of(path: Path, number: int, line: bytes, expected: str, *, start: int = 0) -> Mapping[str, Any]:
    """Returns the object in a line.

    Args:
        path: of the file, for messages.
        number: of the line.
        line: its bytes.
        expected: what an object looks like, for messages.
        start: byte at which the line begins.

    Raises:
        ConfigError: it is not UTF-8, not JSON, or not an object.
    """
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}, line {number}: not UTF-8 (byte {start + error.start}). Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}, line {number}: not JSON ({error}). Expected {expected}.") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{path}, line {number}: a JSON {type(row).__name__}. Expected an object: {expected}.")
    return row
