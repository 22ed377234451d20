"""Published benchmarks: what is known of each (`BENCHMARKS`), and readers of a user's own copy or of a hub's.

Nothing ships with this suite. `read_benchmark` reads a benchmark by its name and reports every malformed row;
`load_benchmark` reads any file in one of the known layouts.
"""

from .layouts import ANSWER_TYPES, KINDS, BenchmarkTasks, load_benchmark
from .reading import Questions, read_benchmark
from .record import Benchmark, Hub
from .registry import BENCHMARKS, find_benchmark

__all__ = [
    "ANSWER_TYPES",
    "BENCHMARKS",
    "KINDS",
    "Benchmark",
    "BenchmarkTasks",
    "Hub",
    "Questions",
    "find_benchmark",
    "load_benchmark",
    "read_benchmark",
]
