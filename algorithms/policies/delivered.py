"""Weights that servers have already: what the process that gave them these says to the others that draw from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Delivered(Mapping[str, Any]):
    """Stands for weights that nobody has to send any more; there are none in it.

    Args:
        folder: where the servers read them, and a replica that comes back can still read them; None before the first.
        behind: URLs of the replicas that do not have them.
    """

    folder: Path | None
    behind: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """Returns nothing: the weights are elsewhere."""
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """Yields nothing."""
        return iter(())

    def __len__(self) -> int:
        """Returns 0."""
        return 0
