"""What every `search` has in common: its specification, and how results are written."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigError
from .. import ToolResult
from ..spec import ToolSpec

SPEC = ToolSpec(
    name="search",
    description="Searches a collection of documents and returns those that fit best.",
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string", "description": "what to look for, best the name of one thing"}},
        "required": ["query"],
    },
)

MAX_RESULTS = 50
_SHOWN = 80


def require_results(results: int) -> None:
    """Raises `ConfigError` unless this many results can be asked for."""
    if not 1 <= results <= MAX_RESULTS:
        raise ConfigError(f"results must lie between 1 and {MAX_RESULTS}, got {results}.")


def written(texts: Sequence[str], query: str) -> ToolResult:
    """Returns what the model reads: one text per line; finding nothing is not an error."""
    if not texts:
        shown = query if len(query) <= _SHOWN else f"{query[:_SHOWN]}…"
        return ToolResult(f"No results for {shown!r}: try another name.")
    return ToolResult("\n".join(texts))


def asked_for(arguments: Mapping[str, Any]) -> str:
    """Returns the query of a call, without halves of characters, which cannot be sent."""
    return str(arguments["query"]).encode("utf-8", "replace").decode()
