"""`arpo bench trees`: bytes and seconds per token of rollout trees, in memory and on disk, and how they grow with the file."""

import gc
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from .. import seeds
from ..cli.results import Value
from ..tracking.trees import TreeFile, read_trees, write_trees
from ..tree import RolloutTree
from .bounds import Bound
from .check import Benchmark, Say, silent
from .pack import shared_tree

BOUNDS = {
    "memory_bytes_over_tokens": Bound("≤", 16.0),
    "disk_bytes_over_tokens": Bound("≤", 12.0),
    "write_growth": Bound("≤", 1.5),
    "open_growth": Bound("≤", 3.0),
}
"""Of the largest file: what a token takes, and the time per token written, and per tree opened, over those of the smallest."""
_OPENED = 32
"""Trees that are opened in each file."""
_SHARING, _VOCABULARY = 2.0, 151_936


@dataclass(frozen=True)
class TreesBench:
    """Measure what rollout trees take in memory, on disk, and in time to write and to open one."""

    trees: tuple[int, ...] = (63, 250, 1000)
    """Trees in each file, the smallest number first; each has 16 paths, which share half of their tokens."""
    path: int = 2000
    """Tokens of each path."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not self.trees or min(self.trees) < 1 or list(self.trees) != sorted(set(self.trees)):
            raise ConfigError(f"trees must be numbers from 1 on, each larger than the one before; got {self.trees}.")
        if self.path < 32:
            raise ConfigError(f"path must be at least 32, got {self.path}.")


def measure(config: TreesBench, say: Say = silent) -> dict[str, Value]:
    """Returns what a token takes in each file, flat, and how that grows from the smallest to the largest.

    `tokens_N`: unique tokens of N trees; `memory_bytes_N`: of a token of trees that were read, with all Python objects;
    `disk_bytes_N`: of a token; `write_seconds_N`: of a million tokens; `open_milliseconds_N`: of finding and reading one tree.
    """
    found: dict[str, float] = {}
    sample = [shared_tree(_SHARING, seed, config.path, _VOCABULARY, entropies=True) for seed in range(min(config.trees[0], 16))]
    with tempfile.TemporaryDirectory(prefix="arpo-bench-") as folder:
        for count in config.trees:
            say(f"{count:,} trees …")
            found |= {f"{name}_{count}": value for name, value in _of_file(sample, count, Path(folder)).items()}
    first, last = config.trees[0], config.trees[-1]
    found |= {f"{what}_bytes_over_tokens": found[f"{what}_bytes_{last}"] for what in ("memory", "disk")}
    found["write_growth"] = found[f"write_seconds_{last}"] / found[f"write_seconds_{first}"]
    found["open_growth"] = found[f"open_milliseconds_{last}"] / found[f"open_milliseconds_{first}"]
    sizes: dict[str, Value] = {"trees": ",".join(map(str, config.trees)), "path": config.path}
    return {name: round(value, 3) for name, value in found.items()} | sizes


def _of_file(sample: Sequence[RolloutTree], count: int, folder: Path) -> dict[str, float]:
    path = folder / f"{count}.jsonl.zst"
    tokens = sum(_tokens(tree) for tree in _repeated(sample, count))
    began = time.perf_counter()
    write_trees(path, _repeated(sample, count))
    written = time.perf_counter() - began
    opened = [
        _seconds_to_open(path, int(number)) for number in seeds.generator("bench trees", count).integers(count, size=_OPENED)
    ]
    return {
        "tokens": float(tokens),
        "memory_bytes": _held(path) / tokens,
        "disk_bytes": path.stat().st_size / tokens,
        "write_seconds": written / tokens * 1e6,
        "open_milliseconds": 1e3 * median(opened),
    }


def _repeated(sample: Sequence[RolloutTree], count: int) -> Iterator[RolloutTree]:
    """Yields so many trees: making random ones would take longer than what is measured."""
    return (sample[number % len(sample)] for number in range(count))


def _tokens(tree: RolloutTree) -> int:
    return sum(len(node.tokens) for node in tree.nodes)


def _seconds_to_open(path: Path, number: int) -> float:
    """Returns the seconds to read one tree of a file that nobody has looked at before."""
    began = time.perf_counter()
    TreeFile(path).read(number)
    return time.perf_counter() - began


def _held(path: Path) -> int:
    """Returns the bytes that the trees of a file take in memory."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = list(read_trees(path))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept
    return taken


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Rollout trees", title_justify="left", caption_justify="left")
    for heading in ("trees", "tokens", "in memory", "on disk", "to write", "to open one"):
        shown.add_column(heading, justify="right")
    for count in str(record["trees"]).split(","):
        shown.add_row(
            f"{int(count):,}",
            f"{float(record[f'tokens_{count}'] or 0.0):,.0f}",
            f"{record[f'memory_bytes_{count}']:.1f} B per token",
            f"{record[f'disk_bytes_{count}']:.1f} B per token",
            f"{record[f'write_seconds_{count}']:.2f} s per million",
            f"{record[f'open_milliseconds_{count}']:.1f} ms",
        )
    shown.caption = Text(
        f"Trees of 16 paths of {record['path']} tokens, of which half are shared. In the largest file, writing a token takes "
        f"{record['write_growth']:.2f} times as long as in the smallest, and opening a tree {record['open_growth']:.2f} times."
    )
    return shown


BENCHMARK = Benchmark(TreesBench, measure, table, BOUNDS, check=TreesBench(trees=(4, 32)))
