"""A converter of lengths that remembers: `again` repeats the last conversion for another value. It forks exactly."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from arpo_envs import CloneError, ForkLevel, Session, Task, ToolResult, ToolSpec

METRES = {"m": 1.0, "km": 1000.0, "mile": 1609.344, "foot": 0.3048}
_VALUE = {"value": {"type": "number"}}
_UNITS = {"unit": {"type": "string", "enum": list(METRES)}, "into": {"type": "string", "enum": list(METRES)}}
CONVERT = ToolSpec(
    "convert",
    f"Converts a length; units are {', '.join(METRES)}.",
    {"type": "object", "properties": _VALUE | _UNITS, "required": ["value", "unit", "into"]},
)
AGAIN = ToolSpec(
    "again", "Converts another value as the last one was.", {"type": "object", "properties": _VALUE, "required": ["value"]}
)


class Conversions:
    """What an episode has converted last."""

    def __init__(self, digits: int, last: tuple[str, str] | None = None) -> None:
        self.digits, self.last = digits, last

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        units = (arguments["unit"], arguments["into"]) if name == "convert" else self.last
        if units is None:
            return ToolResult("Nothing was converted yet: use convert first.", error="nothing_yet")
        if unknown := [unit for unit in units if unit not in METRES]:
            return ToolResult(f"{unknown[0]!r} is no unit here; units are {', '.join(METRES)}.", error="unknown_unit")
        self.last = units
        value = arguments["value"] * METRES[units[0]] / METRES[units[1]]
        return ToolResult(f"{arguments['value']:g} {units[0]} = {value:.{self.digits}g} {units[1]}")

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [Conversions(self.digits, self.last) for _ in range(n)]

    def reseed(self, seed: int) -> None:
        """Draws nothing."""

    def close(self) -> None:
        """Holds nothing outside this process."""


class Converter:
    """Opens a session per episode.

    Args:
        digits: significant ones of a result.
    """

    specs = (CONVERT, AGAIN)
    fork_level = ForkLevel.EXACT

    def __init__(self, digits: int = 6) -> None:
        self.digits, self.identity = digits, f"{digits} digits"

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        return Conversions(self.digits)
