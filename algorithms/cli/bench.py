"""`arpo bench`: one file per benchmark in `algorithms/bench`, imported when it is called."""

import importlib
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from arpo_envs.errors import unknown_name

BENCHMARKS = {
    "env": "Time of the environment itself per call, and of a fork.",
    "fork": "Time and memory of a clone of a live Python interpreter, beside the alternatives.",
    "pack": "Time and memory of an update on packed trees, beside flat rows.",
    "rollout": "Our scheduler and engines beside a lock-step scheduler and bare generation.",
    "sharing": "Tool calls that a tree saves, from one frozen policy.",
}


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo bench NAME`.

    Raises:
        ConfigError: no benchmark has that name.
    """
    words = list(arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        _print_help()
        return 0
    name, rest = words[0], words[1:]
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    module = importlib.import_module(f"...bench.{name}", __name__)
    return int(module.main(rest))


def _print_help() -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, line in BENCHMARKS.items():
        table.add_row(f"[bold cyan]arpo bench {name}[/]", line)
    console = Console()
    console.print("Measurements; each prints a table and writes a flat object with --json FILE.\n")
    console.print(table)
    console.print("\nEach explains itself: [bold]arpo bench env --help[/]")
