"""Reads Parquet files of the user's, a few rows at a time, and says where they are wrong."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..progress import shown
from .lines import text_of

_ROWS = 1024
"""Read at a time."""
_BUFFER = 1 << 20
"""Bytes of a column that are read at a time, however long its row groups are."""
_LONG = 50_000
"""Rows that take some seconds to read."""
_ROWS_WITH_ALL = 64
"""Read at a time with all their columns, of which one may hold a picture."""


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.suffix.casefold() == ".parquet"


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a Parquet file with all their columns, as Python values.

    Raises:
        ConfigError: pyarrow is not installed, or the file cannot be read.
    """
    with _opened(path) as file:
        for batch in file.iter_batches(_ROWS_WITH_ALL):
            yield from batch.to_pylist()


class ParquetTexts:
    """The rows of a Parquet file, as often as it is iterated over; only a small part of a row group is in memory at a time.

    Args:
        path: the file.
        columns: their names; each must hold a text in each row.

    Raises:
        ConfigError: pyarrow is not installed, the file cannot be read or has no rows, or a column is missing; while iterating
            also that a row has no text, which it names, counted from 1.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, list(columns)
        with _opened(self._path) as file:
            names, self._rows = file.schema_arrow.names, int(file.metadata.num_rows)
        for name in columns:
            if names.count(name) != 1:
                raise ConfigError(f"{path} must have one column {name!r}. Its columns: {', '.join(names) or 'none'}.")
        if not self._rows:
            raise ConfigError(f"{path} has no rows. Expected the columns {', '.join(columns)}.")

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self._rows

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        """Yields the rows, each with the texts of the columns by their names."""
        number = 0
        with _opened(self._path) as file:
            for batch in file.iter_batches(_ROWS, columns=self._columns):
                for row in batch.to_pylist():
                    number += 1
                    yield {name: text_of(self._path, number, row, name, unit="row") for name in self._columns}

    def copy_as_lines(self, to: Path) -> bool:
        """Writes the rows as JSON Lines, of which each can be read alone, and shows how far it is if there are many.

        Args:
            to: where to; no other process ever sees half of it.

        Returns:
            Whether it could be written.
        """
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=to.parent, prefix=to.name)
        except OSError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                for row in shown(self, len(self), f"Reading {self._path.name}, once", long=_LONG):
                    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            os.replace(temporary, to)
        except OSError:  # the disk is full
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)
        return True


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens the file, and says of whatever is wrong with it that it is this file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(f"Reading {path} needs pyarrow: pip install 'arpo-envs[parquet]'") from error
    try:
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} has a text that is not UTF-8 ({error.reason}). Write texts as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path} is not a Parquet file that can be read ({error}).") from error
