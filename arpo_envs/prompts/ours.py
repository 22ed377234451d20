"""Our own prompt: what the environment asks for, and how its dialect is written."""

from collections.abc import Sequence

from ..dialects import Dialect
from ..tools.spec import ToolSpec
from .prompt import Prompt


def _write(own: str, dialect: Dialect, specs: Sequence[ToolSpec]) -> str:
    return own


OURS = Prompt("ours", "this package", _write)
