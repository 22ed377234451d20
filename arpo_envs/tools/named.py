"""Tools by name, so that an environment's arguments can say which it offers: built in, from a package, or by reference."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..plugins import Registry
from . import Tool

TOOLS = Registry("tool", "arpo.tools", {"python": "arpo_envs.tools.python:PythonTool"})
"""Tools that can be made without arguments, and those that installed packages offer under the entry points `arpo.tools`."""

Asked = str | Sequence[str | Tool] | Mapping[str, Mapping[str, Any]]
"""Which tools: a name, several, or a mapping from names to the arguments each is made with.

A name is one of `TOOLS.names()`, or "package.module:object"; several may include ready-made tools.
"""


def make_tools(asked: Asked | None) -> list[Tool]:
    """Returns the requested tools.

    Args:
        asked: see `Asked`; None for none.

    Raises:
        ConfigError: a name is unknown, or what it names is not a tool.

    >>> [spec.name for tool in make_tools("python") for spec in tool.specs]
    ['python']
    """
    if asked is None:
        return []
    if isinstance(asked, str):
        asked = [asked]
    if isinstance(asked, Mapping):
        return [make_tool(name, arguments) for name, arguments in asked.items()]
    if not isinstance(asked, Sequence) or not all(isinstance(one, str | Tool) for one in asked):
        raise ConfigError(f"tools= takes a name, several names or tools, or a mapping from names to arguments; got {asked!r}.")
    return [make_tool(one) if isinstance(one, str) else one for one in asked]


def make_tool(name: str, arguments: Mapping[str, Any] | None = None) -> Tool:
    """Returns a tool by name.

    Args:
        name: one of `TOOLS.names()`, or "package.module:object": a tool, or what returns one when called.
        arguments: what it is called with.

    Raises:
        ConfigError: the name is unknown, or what it names is not a tool or takes other arguments.
    """
    found, arguments = TOOLS.find(name), arguments or {}
    if isinstance(found, Tool) and not isinstance(found, type):
        if arguments:
            raise ConfigError(f"The tool {name} takes no arguments: it is ready-made. Leave out {', '.join(arguments)}.")
        return found
    if not callable(found):
        raise ConfigError(f"The tool {name} is {found!r}; expected a tool, or what returns one when called.")
    try:
        tool = found(**arguments)
    except TypeError as error:
        raise ConfigError(f"The tool {name} does not take these arguments: {error}.") from error
    if not isinstance(tool, Tool):
        raise ConfigError(f"{name} returned {tool!r}, which is not a tool: it needs specs, fork_level and open(task, rng).")
    return tool
