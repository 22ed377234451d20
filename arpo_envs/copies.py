"""Copies of what is mostly plain: as `copy.deepcopy` makes them, which calls itself for every number and string."""

import copy
from collections.abc import Mapping
from typing import Any

ATOMS = frozenset({int, float, bool, str, type(None)})
"""Types of which a deep copy is the value itself."""


def copied(values: Mapping[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    """Returns a dictionary with deep copies of the values; keys are taken as they are.

    Args:
        values: attributes by name, say, or an `info`.
        memo: `deepcopy`'s, so that what is copied elsewhere too is copied once.

    >>> info = {"turn": 1, "notes": ["a"]}
    >>> twin = copied(info, {})
    >>> twin == info, twin["notes"] is info["notes"]
    (True, False)
    """
    return {name: value if type(value) in ATOMS else copy.deepcopy(value, memo) for name, value in values.items()}
