"""How a tool call is written in text: ARPO's tags, or JSON function calls, behind one interface.

A model's mistake is a value (`Mistake`), never an exception. Parsing is linear, because the text is written by a model and may
be long and hostile; a stop string is where an engine may have stopped, and never decides what the text means.
"""

from collections.abc import Sequence

from ..errors import unknown_name
from ..tools.spec import ToolSpec
from .actions import RESERVED, Action, Answer, Call, Dialect, Mistake
from .json_calls import JsonDialect
from .tags import TagDialect

__all__ = ["RESERVED", "Action", "Answer", "Call", "Dialect", "JsonDialect", "Mistake", "TagDialect", "make_dialect"]


def make_dialect(name: str, specs: Sequence[ToolSpec]) -> Dialect:
    """Returns the dialect of that name ("tags" or "json") for these tools.

    Raises:
        ConfigError: no dialect has that name.
    """
    if name == "tags":
        return TagDialect(tuple(specs))
    if name == "json":
        return JsonDialect(tuple(specs))
    raise unknown_name("dialect", name, ["tags", "json"])
