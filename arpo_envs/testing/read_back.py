"""Whether a model can make a call: what is written in a dialect must be read back unchanged."""

from collections.abc import Mapping
from typing import Any

from ..dialects import Call, make_dialect
from ..tools.spec import ToolSpec


def differently_read(spec: ToolSpec, arguments: Mapping[str, Any]) -> str | None:
    """Returns how a call that a perfect model would write is read back, if not unchanged; None if it is the same.

    Args:
        spec: the specification of the tool that is called.
        arguments: arguments that fit its parameters.

    >>> schema = {"type": "object", "properties": {"at": {"type": "object"}}, "required": ["at"]}
    >>> go = ToolSpec("go", "Goes there.", schema)
    >>> differently_read(go, {"at": {"x": 1}}) is None
    True
    >>> print(differently_read(go, {"at": {1: 1}}))
    tags: <go>{"at": {"1": 1}}</go> is read as Call(tool='go', arguments={'at': {'1': 1}})
    """
    for name in ("tags", "json"):
        dialect = make_dialect(name, (spec,))
        try:
            written = dialect.call(spec.name, arguments)
        except (TypeError, ValueError, RecursionError) as error:
            return f"{name}: it cannot be written: {error}"
        found = dialect.parse(written)
        if found != Call(spec.name, arguments):
            return f"{name}: {written} is read as {found}"
    return None
