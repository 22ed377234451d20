"""Function calls to an environment, where everything that a model does is one: its answer, too."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigError, unknown_name
from ..tools import complaint
from ..tools.spec import ToolSpec

ANSWER = ToolSpec(
    "answer",
    "Answers the question and ends the conversation.",
    {"type": "object", "properties": {"text": {"type": "string", "description": "the final answer"}}, "required": ["text"]},
)
"""What ends an episode where everything is a function call; no tool may have this name."""


def require_fitting(name: str, arguments: Mapping[str, Any], tools: Sequence[ToolSpec]) -> None:
    """Refuses a call of an unknown tool, or with arguments that do not fit.

    Raises:
        ConfigError: the message tells a model what to do.

    >>> require_fitting("answer", {"txt": "Berlin"}, [ANSWER])
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: answer needs the argument 'text'.
    """
    known = {spec.name: spec for spec in tools}
    if name not in known:
        raise unknown_name("tool", name[:60], known)
    if (wrong := complaint(known[name], arguments)) is not None:
        raise ConfigError(wrong)
