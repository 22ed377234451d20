"""Reads a benchmark by its name, from a local copy or from the hub, and reports what is wrong with its rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from .. import Task
from ..files import ListedTasks
from .hub import hub_rows
from .layouts import Reader
from .record import Benchmark
from .rows import Found, Row, rows_in

_SHOWN = 5
"""Malformed rows that a message quotes."""


@dataclass(frozen=True)
class Questions:
    """The questions of a benchmark.

    Args:
        tasks: to ask, in the order of the file.
        malformed: what is wrong with each row that was left out: file, place and reason.
    """

    tasks: ListedTasks
    malformed: tuple[str, ...] = ()


def read_benchmark(benchmark: Benchmark, path: Path | None = None, *, skip_malformed: bool = False) -> Questions:
    """Returns the questions of a benchmark.

    Args:
        benchmark: see `find_benchmark`.
        path: of a local copy, JSON Lines, a JSON list, CSV or Parquet; None to load it from the hub.
        skip_malformed: leave malformed rows out, rather than to refuse the file.

    Raises:
        ConfigError: the file cannot be read or has no usable row, or a row is malformed; the message names up to five of them.
    """
    digest = None
    if path is None:
        path = Path(benchmark.hub.id)
        rows, digest = hub_rows(benchmark)
    else:
        rows = rows_in(path)
    tasks, malformed = _sorted_out(benchmark, path, rows)
    if malformed and not skip_malformed:
        raise ConfigError(
            f"{_listed(path, malformed)}\nMend these rows, or leave them out: --skip-malformed, in code skip_malformed=True."
        )
    if not tasks:
        raise ConfigError(_listed(path, malformed) if malformed else f"{path} has no rows.")
    known = {"benchmark": benchmark.name, "gated": benchmark.gated}
    listed = ListedTasks(path, benchmark.name, enumerate(tasks, start=1), digest=digest, benchmark=known)
    return Questions(listed, tuple(malformed))


def _sorted_out(benchmark: Benchmark, path: Path, rows: Iterable[Found]) -> tuple[list[Task], list[str]]:
    """Returns the tasks, and what is wrong with the other rows."""
    tasks: dict[str, Task] = {}
    malformed: list[str] = []
    for place, row in rows:
        try:
            task = _task(benchmark, path, place, row)
        except ConfigError as error:
            malformed.append(str(error))
            continue
        if task.id in tasks:
            malformed.append(f"{path}, {place}: the id {task.id!r} occurs twice.")
        tasks.setdefault(task.id, task)
    return list(tasks.values()), malformed


def _task(benchmark: Benchmark, path: Path, place: str, row: Row) -> Task:
    """Returns one row as a task.

    Raises:
        ConfigError: it is malformed, or cannot be asked.
    """
    if isinstance(row, ConfigError):
        raise row
    try:
        columns = benchmark.columns(row)
    except ValueError as error:
        raise ConfigError(f"{path}, {place}: {error}.") from error
    return Reader(path, place, columns, benchmark.layout).task()


def _listed(path: Path, malformed: list[str]) -> str:
    more = len(malformed) - _SHOWN
    end = f"\n… and {more} more." if more > 0 else ""
    return f"{path}: {len(malformed)} malformed row{'s' if len(malformed) > 1 else ''}.\n" + "\n".join(malformed[:_SHOWN]) + end
