"""Loads a benchmark from the Hugging Face hub, with the library `datasets`."""

from collections.abc import Iterator

from ...errors import ConfigError
from .record import Benchmark
from .rows import Found, lower


def hub_rows(benchmark: Benchmark) -> tuple[Iterator[Found], str]:
    """Returns the rows of a benchmark, and what identifies their content.

    Raises:
        ConfigError: `datasets` is not installed, or does not get it; the message says what to do instead.
    """
    hub = benchmark.hub
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ConfigError(
            f"{benchmark.title} is not on this machine: give a copy with --data FILE, or let it be loaded from the hub after "
            "pip install 'arpo-envs[hub]'."
        ) from error
    try:
        found = load_dataset(hub.id, hub.config, split=hub.split, revision=hub.revision)
    except (OSError, ValueError, RuntimeError) as error:
        access = f" {benchmark.access}" if benchmark.access else ""
        raise ConfigError(
            f"{benchmark.title} cannot be loaded from the hub ({hub.id}, split {hub.split}): {error}.{access} "
            "A copy on this machine is read with --data FILE."
        ) from error
    rows = ((f"row {number}", lower(row)) for number, row in enumerate(found, start=1))
    return rows, str(hub.revision or found._fingerprint)
