"""What a reset is asked for, row by row: seeds, options, and the mask of the rows that it concerns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError

MASK = "reset_mask"


def spread(seed: int | Sequence[int | None] | None, rows: Sequence[int]) -> list[int | None]:
    """Returns one seed for each row.

    Args:
        seed: None, a number (row i gets seed + i), or one of these for each row.
        rows: the rows' numbers.

    Raises:
        ConfigError: there are more or fewer seeds than rows.

    >>> spread(7, [0, 2])
    [7, 9]
    """
    if seed is None:
        return [None] * len(rows)
    if isinstance(seed, int | np.integer):
        return [int(seed) + row for row in rows]
    if len(seed) != len(rows):
        raise ConfigError(f"Expected {len(rows)} seeds, one per row, got {len(seed)}.")
    return list(seed)


def one_each(
    options: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None, count: int
) -> list[Mapping[str, Any] | None]:
    """Returns the options of each row.

    Raises:
        ConfigError: there are more or fewer than rows.
    """
    if options is None or isinstance(options, Mapping):
        return [options] * count
    if len(options) != count:
        raise ConfigError(f"Expected {count} options, one per row, got {len(options)}.")
    return list(options)


def reset_mask(options: Mapping[str, Any] | None, count: int) -> tuple[list[int], Mapping[str, Any] | None]:
    """Returns the rows that a reset concerns, and the options without the mask.

    Raises:
        ConfigError: the mask is not a boolean array [count] with at least one True.

    >>> rows, options = reset_mask({"reset_mask": np.array([False, True]), "task": "t1"}, 2)
    >>> rows
    [1]
    """
    if options is None or MASK not in options:
        return list(range(count)), options
    mask = options[MASK]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (count,) or not mask.any():
        raise ConfigError(
            f"options[{MASK!r}] must be a NumPy array of {count} booleans, at least one of them True, got {mask!r}."
        )
    rest = {name: value for name, value in options.items() if name != MASK}
    return [int(row) for row in np.flatnonzero(mask)], rest
