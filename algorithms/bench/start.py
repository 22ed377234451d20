"""`arpo bench start`: what the first import and the built-in world cost a fresh process, over what they cannot do without."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..cli.results import Value
from .bounds import Bound
from .check import Benchmark, Say, silent

BOUNDS = {"import_over_gymnasium": Bound("≤", 0.18), "world_build_over_load": Bound("≥", 20.0)}
"""Measured were 0.05 to 0.09, and 33 to 59."""

_IMPORTS = """
import time
began = time.process_time()
import gymnasium, numpy
between = time.process_time()
import arpo_envs
print([1e3 * (between - began), 1e3 * (time.process_time() - between)])
"""
_WORLD = """
import time
from arpo_envs.tasks.world import load_world
began = time.process_time()
load_world()
print([1e3 * (time.process_time() - began)])
"""


@dataclass(frozen=True)
class StartBench:
    """Measure what the first import and the built-in world cost."""

    repeats: int = 10
    """Fresh processes for each; the quickest counts, because other work on the machine only adds to it."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.repeats < 1:
            raise ConfigError(f"repeats must be at least 1, got {self.repeats}.")


def measure(config: StartBench, say: Say = silent) -> dict[str, Value]:
    """Returns milliseconds of CPU, and ratios between them, flat.

    `import_over_gymnasium`: what our import adds, over importing Gymnasium and NumPy, which it needs. `world_build_over_load`:
    building the world, done once per machine, over reading it from the cache.
    """
    with tempfile.TemporaryDirectory() as folder:  # the first process compiles all modules, whoever installed them
        environment = os.environ | {"ARPO_ENVS_CACHE": folder, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        say("imports …")
        needed, own = zip(*(_printed(_IMPORTS, environment) for _ in range(config.repeats + 1)), strict=True)
        say("world …")
        (built,) = _printed(_WORLD, environment)
        loaded = min(_printed(_WORLD, environment)[0] for _ in range(config.repeats))
    found = {
        "gymnasium_import_ms": min(needed),
        "own_import_ms": min(own),
        "world_build_ms": built,
        "world_load_ms": loaded,
        "import_over_gymnasium": min(own) / min(needed),
        "world_build_over_load": built / loaded,
    }
    return {name: round(value, 3) for name, value in found.items()}


def _printed(program: str, environment: Mapping[str, str]) -> list[float]:
    """Returns the numbers that a program in a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdout=subprocess.PIPE)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(title="Milliseconds of CPU in a fresh process", title_justify="left")
    for heading in ("", "ms", "ratio", "bound"):
        shown.add_column(heading, justify="left" if not heading else "right")
    rows = {
        "import gymnasium, numpy": ("gymnasium_import_ms", None),
        "  and arpo_envs": ("own_import_ms", "import_over_gymnasium"),
        "the world, built": ("world_build_ms", None),
        "  read from the cache": ("world_load_ms", "world_build_over_load"),
    }
    for label, (name, ratio) in rows.items():
        cells = BOUNDS[ratio].cells(float(record[ratio] or 0.0), "×") if ratio is not None else (Text(), Text())
        shown.add_row(label, f"{record[name]:.1f}", *cells)
    return shown


BENCHMARK = Benchmark(StartBench, measure, table, BOUNDS, check=StartBench(repeats=6))
