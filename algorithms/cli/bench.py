"""`arpo bench`: one file per benchmark in `algorithms/bench`, imported when it is called."""

import importlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name

from .docstrings import with_help
from .outputs import require_file
from .progress import saying
from .results import write_json

if TYPE_CHECKING:
    from ..bench.check import Benchmark, Options

BENCHMARKS = {
    "env": "Time that the environment itself takes for a call and for a fork.",
    "calls": "What a search call costs beside GEM and SkyRL-gym, with a retriever that takes no time.",
    "games": "What a step of another library's game costs here, copied and replayed, beside that library.",
    "hubs": "What a step costs in other projects' hands: TRL, SkyRL-gym and the hubs that are installed.",
    "start": "What the first import and the built-in world cost a new process.",
    "text": "How the time to parse and check hostile text grows with its length.",
    "sharing": "Tool calls that trees save, with a policy that does not learn.",
    "fork": "Time and memory of a clone of a live Python interpreter, compared with the alternatives.",
    "browser": "Time and memory to open pages, to index a site, and to clone a session of the browser.",
    "rollout": "Speed of the scheduler and the engines, compared with a lock-step scheduler and bare generation.",
    "ahead": "A step that is collected while the learner updates, beside one that waits for it.",
    "vector": "The vector environment, compared with Gymnasium's sync and async under lognormal tool latencies.",
    "driver": "Memory and CPU time of the main process when engines and learner are elsewhere.",
    "weights": "Seconds and bytes of a weight update, through each transport.",
    "trees": "What rollout trees take in memory, on disk, and in time to write and to open one.",
    "page": "Time until a run's page is seen, and until a tree opens in it, in headless Chromium.",
    "pack": "Time and memory of an update on packed trees, compared with flat rows.",
    "logits": "Memory of an update with a large vocabulary, scored a few tokens at a time or all at once.",
    "machine": "How long the parts of a step take on this machine: the constants of `arpo plan`.",
    "plan": "What `arpo plan` says beforehand of real configurations, compared with what they take.",
}
ALL, GPU, CHECK = "all", "gpu", "--check"

_explained = cache(with_help)
"""Gives the options of a benchmark their help, once: they are changed in place."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo bench NAME`, or all benchmarks; with `--check`, runs small sizes and compares ratios with their bounds.

    Raises:
        ConfigError: no benchmark has that name, or the options cannot be combined.
    """
    words = list(arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        _print_help()
        return 0
    name, rest = words[0], words[1:]
    if name not in (ALL, GPU, *BENCHMARKS):
        raise unknown_name("benchmark", name, [ALL, GPU, *BENCHMARKS])
    if name == GPU:
        return _run_gpu(rest)
    names = list(BENCHMARKS) if name == ALL else [name]
    if CHECK in rest:
        if len(rest) > 1:
            raise ConfigError(f"{CHECK} has its own sizes and takes no other options.")
        check = importlib.import_module("...bench.check", __name__)
        return int(check.compare_all(names, Console(highlight=False)))
    if name == ALL and rest:
        raise ConfigError(f"arpo bench {ALL} takes no option except {CHECK}.")
    for one in names:
        _run(one, rest)
    return 0


def _run(name: str, words: Sequence[str]) -> None:
    """Runs one benchmark and prints its table."""
    from ..bench.check import load

    benchmark: Benchmark[Options] = load(name)
    about = f"{benchmark.options.__doc__} Only {CHECK}: small sizes, whose ratios are compared with bounds."
    config = tyro.cli(_explained(benchmark.options), args=list(words), prog=f"arpo bench {name}", description=about)
    require_file(config.json, "--json")
    console = Console(highlight=False)
    with saying(console, "measuring …") as say:
        record = benchmark.measure(config, lambda text: say(f"{name}: {text}"))
    console.print(benchmark.table(record))
    if config.json is not None:
        write_json(config.json, record)


def _run_gpu(words: Sequence[str]) -> int:
    """Runs what has a record of its own and an exit status, and is no part of `all`."""
    from ..bench.gpu import GpuBench, run

    about = (
        f"{GpuBench.__doc__} What is missing here is skipped, and named. The exit status is 1 if what must hold does not, if a "
        "measure fails, or if there was nothing to measure."
    )
    config = tyro.cli(_explained(GpuBench), args=list(words), prog=f"arpo bench {GPU}", description=about)
    require_file(config.json, "--json")
    return run(config, Console(highlight=False))


def _print_help() -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, line in BENCHMARKS.items():
        table.add_row(f"[bold cyan]arpo bench {name}[/]", line)
    table.add_row(f"[bold cyan]arpo bench {ALL}[/]", "All benchmarks, one after the other; takes ten minutes.")
    table.add_row(
        f"[bold cyan]arpo bench {ALL} {CHECK}[/]",
        "All benchmarks at small sizes, to see whether their ratios stay within bounds; takes two minutes.",
    )
    table.add_row(f"[bold cyan]arpo bench {GPU}[/]", "What only a GPU can show, in less than eight minutes; no part of all.")
    console = Console()
    console.print("Benchmarks. Each prints a table; with --json FILE it also writes a flat JSON object.\n")
    console.print(table)
    console.print(
        f"\nHelp for a benchmark: [bold]arpo bench env --help[/]. [bold]{CHECK}[/] also works with a single name. It compares "
        "ratios within one run, never times. A benchmark that misses a bound is run again, up to three times in all, "
        "because other work on the machine disturbs single measurements. If it misses every time, or a ratio cannot be "
        "measured here, the exit status is 1."
    )
