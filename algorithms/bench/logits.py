"""`arpo bench logits`: memory of an update with a large vocabulary, whose tokens are scored a few at a time, or all at once."""

import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent
from .memory import held_now, most_held
from .pack import PackBench, Update, shared_tree

BOUNDS = {"chunked_memory_over_whole": Bound("≤", 0.5)}
"""Measured were 0.23 with the default sizes and 0.31 with those of `--check`. Logits that are held for all tokens make it 1."""
_PATHS = 16


@dataclass(frozen=True)
class LogitsBench:
    """Measure the memory of an update with a large vocabulary."""

    vocabulary: int = 151_936
    """Vocabulary size of the transformer; the default is Qwen2.5's."""
    tokens: int = 2048
    """Tokens that are scored in one micro-batch."""
    chunk: int | None = None
    """Logits held at once where tokens are scored a few at a time (default: as in training)."""
    threads: int = 1
    """PyTorch CPU threads."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.vocabulary < 64 or self.tokens < 256 or self.threads < 1 or (self.chunk is not None and self.chunk < 1):
            raise ConfigError("vocabulary must be at least 64, tokens 256, chunk and threads 1.")


def measure(config: LogitsBench, say: Say = silent) -> dict[str, Value]:
    """Returns what an update takes, flat.

    `chunked_megabytes`, `whole_megabytes`: the most memory that an update adds to the process. `chunked_seconds`,
    `whole_seconds`: its time.
    """
    found: dict[str, Value] = {}
    added = {}
    for way, chunk in (("chunked", config.chunk), ("whole", config.vocabulary * config.tokens)):
        say(f"{way} …")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # what was held before does not count
            added[way], seconds = fresh.submit(_updated, config, chunk).result()
        found |= {f"{way}_megabytes": round(added[way] / 1e6, 1), f"{way}_seconds": round(seconds, 3)}
    found["chunked_memory_over_whole"] = round(added["chunked"] / added["whole"], 3)
    return found | {"vocabulary": config.vocabulary, "tokens": config.tokens}


def _updated(config: LogitsBench, chunk: int | None) -> tuple[int, float]:
    """Returns the bytes that an update adds, and its seconds, in the process that is measured."""
    import torch

    torch.set_num_threads(config.threads)
    path = 2 * config.tokens // _PATHS  # half of a path is its prompt
    sizes = PackBench(path=path, width=32, layers=1, vocabulary=config.vocabulary, token_budget=4 * config.tokens)
    few = Update(sizes, [shared_tree(1.0, 0, 32, config.vocabulary)], "flat")
    few.once()  # warms up
    trees = [shared_tree(1.0, seed, path, config.vocabulary) for seed in range(_PATHS)]
    update = Update(sizes, trees, "flat", model=few.learner.model)
    if chunk is not None:
        update.learner._scorer.at_once = chunk
    before, began = held_now(), time.perf_counter()
    update.once()
    return most_held() - before, time.perf_counter() - began


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    title = f"{record['tokens']:,} tokens, vocabulary {record['vocabulary']:,}"
    shown = Table(title=title, title_justify="left")
    shown.add_column("tokens are scored")
    for heading in ("adds, MB", "takes, s", "memory", "bound"):
        shown.add_column(heading, justify="right")
    ratio = float(record["chunked_memory_over_whole"] or 0.0)
    ends = (BOUNDS["chunked_memory_over_whole"].cells(ratio, "×"), (Text("1.00×"), Text("")))
    for (way, label), end in zip((("chunked", "a few at a time"), ("whole", "all at once")), ends, strict=True):
        shown.add_row(label, f"{record[f'{way}_megabytes']:,.0f}", f"{record[f'{way}_seconds']:,.2f}", *end)
    return shown


BENCHMARK = Benchmark(LogitsBench, measure, table, BOUNDS, check=LogitsBench(vocabulary=32_768, tokens=1024, chunk=1 << 22))
