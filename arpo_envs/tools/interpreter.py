"""The tool `python` by the name of where it runs: a confined process on this machine, or a sandbox in E2B's cloud."""

import inspect
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, unknown_name
from . import Tool

BACKENDS = ("local", "e2b")


def make_interpreter(backend: str, *, unsafe: bool, arguments: Mapping[str, Any]) -> Tool:
    """Returns the tool `python`.

    Args:
        backend: "local" or "e2b".
        unsafe: with the local backend, run even where this machine cannot confine it.
        arguments: more arguments of the tool, `PythonTool` or `E2BTool`.

    Raises:
        ConfigError: an argument is unknown, out of range, a secret, or would have no effect.
    """
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    if backend == "local":
        from .python import PythonTool

        _require_names("PythonTool", PythonTool, arguments)
        return PythonTool(**{"unsafe": unsafe, **arguments})
    from .e2b import E2BTool

    if unsafe:
        raise ConfigError("unsafe would have no effect with backend='e2b': nothing runs on this machine. Leave it out.")
    if "api_key" in arguments:
        raise ConfigError("A key does not belong in an environment's arguments, which are printed and saved. Set E2B_API_KEY.")
    _require_names("E2BTool", E2BTool, arguments)
    return E2BTool(**arguments)


def _require_names(name: str, tool: type[Tool], arguments: Mapping[str, Any]) -> None:
    known = [parameter for parameter in inspect.signature(tool).parameters if parameter != "self"]
    for argument in arguments:
        if argument not in known:
            raise unknown_name(f"argument of {name} in interpreter=", argument, known)
