"""What all benchmarks have in common, and `--check`: small measurements whose ratios are compared with their bounds.

Ratios are formed within one run, so they mean the same on a slow machine and on a fast one; times are shown by the
benchmarks, but never compared. Other work on the machine disturbs single measurements, so a benchmark that misses a bound
is measured again, and only a bound missed every time counts as missed.
"""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from arpo_envs import ArpoError, ConfigError
from arpo_envs.tools.python import SandboxUnavailable

from ..cli.progress import saying
from ..cli.results import Value
from .bounds import Bound

MEASUREMENTS = 3
"""The most times a benchmark is measured."""
EXTRAS = ("torch", "transformers")
"""Packages that some benchmarks need, and a base installation lacks."""

Say = Callable[[str], None]
"""Called with what is being measured."""


class Options(Protocol):
    """The options of a benchmark, a dataclass whose defaults are the full sizes."""

    @property
    def json(self) -> Path | None:
        """File for the record."""
        ...


C = TypeVar("C", bound=Options)


@dataclass(frozen=True)
class Benchmark(Generic[C]):
    """What a file of `algorithms/bench` defines, under the name BENCHMARK.

    Args:
        options: the class of its options; its docstring says what is measured.
        measure: returns a flat record. A bounded ratio that this machine cannot measure is None, and "absent" names the
            missing packages.
        table: shows a record.
        bounds: of the ratios in a record, by name, with the full sizes.
        check: the options of `--check`, which takes seconds.
        check_bounds: those of `bounds` that differ with the sizes of `check`.
    """

    options: type[C]
    measure: Callable[[C, Say], Mapping[str, Value]]
    table: Callable[[Mapping[str, Value]], Table]
    bounds: Mapping[str, Bound]
    check: C
    check_bounds: Mapping[str, Bound] = field(default_factory=dict)


class NotInstalled(ConfigError):
    """A benchmark needs a program or a package that is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of one ratio.

    Args:
        name: the benchmark's and the ratio's.
        outcome: "failed" means that the measurement could not be made, through a fault of ours.
        value: the one that met the bound, or the last.
        bound: None where the benchmark did not get that far.
        measurements: how many it took.
        reason: why it failed, or was not compared.
    """

    name: str
    outcome: Literal["met", "missed", "not compared", "failed"]
    value: float | None = None
    bound: Bound | None = None
    measurements: int = 1
    reason: str = ""


def silent(text: str) -> None:
    """Ignores the message."""


def load(name: str) -> Benchmark[Options]:
    """Returns a benchmark, imported now.

    Raises:
        ImportError: a package that it needs is missing.
    """
    found: Benchmark[Options] = importlib.import_module(f".{name}", __package__).BENCHMARK
    return found


def compare_all(names: Sequence[str], console: Console) -> int:
    """Compares the ratios of benchmarks with their bounds, and prints the outcome.

    Returns:
        The exit status: 1 unless all ratios were compared and keep within their bounds.
    """
    began = time.monotonic()
    with saying(console, "measuring …") as say:
        found = [comparison for name in names for comparison in compare(name, say)]
    console.print(_table(found))
    compared = sum(one.outcome in ("met", "missed") for one in found)
    console.print(f"{compared} ratio{'s' * (compared != 1)} compared in {time.monotonic() - began:.0f} s.")
    for one in found:
        if one.outcome == "not compared":
            console.print(Text(f"Not compared: {one.name}, {one.reason}", "yellow"))
    wrong = [one for one in found if one.outcome in ("missed", "failed")]
    for one in wrong:
        why = one.reason or f"{one.value:.3g} instead of {one.bound}, in each of {one.measurements} measurements."
        console.print(Text(f"{one.outcome.capitalize()}: {one.name}, {why}", "bold red"))
    return 0 if all(one.outcome == "met" for one in found) else 1


def compare(name: str, say: Say = silent) -> list[Comparison]:
    """Measures a benchmark with its small sizes, again while it misses a bound, and returns the outcome of each ratio."""
    names = [name]
    try:
        benchmark = load(name)
        names = [f"{name} {ratio}" for ratio in benchmark.bounds]
        return _measured(name, benchmark, say)
    except (NotInstalled, SandboxUnavailable) as error:
        reason = str(error)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        reason = f"which needs {error.name}."
    except ArpoError as error:
        return [Comparison(name, "failed", reason=str(error))]
    return [Comparison(one, "not compared", reason=reason) for one in names]


def _measured(name: str, benchmark: Benchmark[Options], say: Say) -> list[Comparison]:
    bounds = {**benchmark.bounds, **benchmark.check_bounds}
    found: dict[str, Comparison] = {}
    left = set(bounds)
    for number in range(1, MEASUREMENTS + 1):
        record = benchmark.measure(benchmark.check, say)
        for ratio in sorted(left):
            found[ratio] = _judged(f"{name} {ratio}", record[ratio], bounds[ratio], number, str(record.get("absent", "")))
        left = {ratio for ratio in left if found[ratio].outcome == "missed"}
        if not left:
            break
    return [found[ratio] for ratio in bounds]


def _judged(name: str, value: Value, bound: Bound, number: int, absent: str) -> Comparison:
    if not isinstance(value, int | float):
        return Comparison(name, "not compared", bound=bound, measurements=number, reason=f"for lack of {absent}.")
    return Comparison(name, "met" if bound.met(value) else "missed", float(value), bound, number)


def _table(found: Sequence[Comparison]) -> Table:
    shown = Table(title="Ratios within one run, small sizes, and the measurements each took", title_justify="left")
    shown.add_column("ratio", overflow="fold")
    for heading in ("measured", "bound", "", "took"):
        shown.add_column(heading, justify="right", no_wrap=True)
    styles = {"met": "green", "missed": "bold red", "failed": "bold red", "not compared": "yellow"}
    for one in found:
        value = "–" if one.value is None else f"{one.value:.3g}"
        bound = "" if one.bound is None else str(one.bound)
        shown.add_row(one.name, value, bound, Text(one.outcome, styles[one.outcome]), f"{one.measurements}×")
    return shown
