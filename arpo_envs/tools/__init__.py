"""What a tool is: specifications for the model, sessions for the episode, results as values.

To add a tool, write one file here with a class that has `specs`, `fork_level` and `open`; see
`docs/add-a-tool.md`. A tool is shared by all environments that use it and never changes; whatever
an episode may change lives in the `Session` it opens.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from msgspec import Struct

from ..errors import CloneError
from ..forking import ForkLevel
from ..tasks import Task
from .spec import ToolSpec


class ToolResult(Struct, frozen=True):
    """What a call returned.

    Args:
        text: what the model reads; an empty string is a success.
        error: None, or a short name of what went wrong ("timeout", "bad_arguments", …).
    """

    text: str
    error: str | None = None


@runtime_checkable
class Session(Protocol):
    """One tool's state in one episode.

    A session may also have `park() -> Session`: a copy that is only ever cloned and closed, for snapshots, where that
    is cheaper to keep than a live one. It raises `CloneError` if it cannot be made.
    """

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Runs one call and returns within `timeout` seconds; a model's mistake is a result, not an exception."""
        ...

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns `n` independent copies; a copy that could not be made is a `CloneError` in its place."""
        ...

    def reseed(self, seed: int) -> None:
        """Replaces all randomness of the session by a function of `seed`."""
        ...

    def close(self) -> None:
        """Frees what the session owns, and nothing that a clone of it owns."""
        ...


@runtime_checkable
class Tool(Protocol):
    """A kind of tool: immutable, shared by every environment, opens one session per episode."""

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model may call; several names when they share one state."""
        ...

    @property
    def fork_level(self) -> ForkLevel:
        """How faithfully the tool's sessions can be cloned."""
        ...

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        """Starts a session for one episode of `task`."""
        ...


class Stateless:
    """Mixin for a tool without episode state: it is its own session, and its own clone."""

    fork_level = ForkLevel.EXACT

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        """Returns the tool itself: there is nothing to start."""
        return self  # type: ignore[return-value]  # the concrete class adds `call`

    def clone(self, n: int = 1) -> "list[Session | CloneError]":
        """Returns the tool itself `n` times: there is nothing that could be shared by mistake."""
        return [self] * n  # type: ignore[list-item]  # as above

    def reseed(self, seed: int) -> None:
        """Does nothing: there is no randomness."""

    def close(self) -> None:
        """Does nothing: an index is shared with other environments and outlives the episode."""


_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def complaint(spec: ToolSpec, arguments: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a call's arguments, as a sentence for the model, or None.

    Checks names, presence and JSON types of the top level; deeper levels are the tool's business.
    """
    properties: Mapping[str, Any] = spec.parameters.get("properties", {})
    for name in spec.parameters.get("required", ()):
        if name not in arguments:
            return f"{spec.name} needs the argument {name!r}."
    for name, value in arguments.items():
        if name not in properties:
            listed = ", ".join(properties) or "none"
            return f"{spec.name} has no argument {name[:60]!r}; its arguments are: {listed}."
        wanted = properties[name].get("type")
        kind = _JSON_TYPES.get(wanted) if isinstance(wanted, str) else None  # a list of types is the tool's business
        if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and wanted != "boolean")):
            return f"The argument {name!r} of {spec.name} must be of type {wanted}."
        if wanted in ("number", "integer") and not _is_finite(value):
            return f"The argument {name!r} of {spec.name} must be a finite number, and no larger than 1e308."
    return None


def _is_finite(value: float) -> bool:
    """Whether a number is one that JSON has, and that floating-point numbers can stand for."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
