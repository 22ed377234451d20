"""What a prompt is, and what published ones have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..dialects import Dialect, TagDialect
from ..errors import ConfigError
from ..tools.spec import ToolSpec


@dataclass(frozen=True)
class Prompt:
    """One way to tell a policy what to do.

    Args:
        name: by which it is chosen.
        source: where its wording is from.
        write: (the environment's own instructions, its dialect, its tools) -> what the policy is told; raises a
            `ConfigError` where that would not be true.
    """

    name: str
    source: str
    write: Callable[[str, Dialect, Sequence[ToolSpec]], str]


def require_tags(name: str, dialect: Dialect) -> TagDialect:
    """Returns the dialect, if it is the one that a published prompt describes.

    Raises:
        ConfigError: calls are written in another way.
    """
    if not isinstance(dialect, TagDialect):
        spoken = getattr(dialect, "name", type(dialect).__name__)
        raise ConfigError(
            f"The prompt {name!r} describes calls as tags, but this environment reads {spoken!r}. Make it with dialect=tags, "
            "or choose the prompt 'ours'."
        )
    return dialect


def more_tools(dialect: TagDialect, specs: Sequence[ToolSpec], known: Sequence[str]) -> str:
    """Returns lines that explain the tools which a published prompt does not know; "" if it knows all."""
    lines = [line for spec in specs if spec.name not in known for line in dialect.explained(spec)]
    return "\n".join(["", "These tools can be called, too:", *lines]) if lines else ""
