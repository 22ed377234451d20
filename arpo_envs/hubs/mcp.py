"""The tools of any id as a server of the Model Context Protocol (SDK 2): `pip install 'arpo-envs[mcp]'`.

The protocol is stateless, so an episode is a handle that `reset` returns and every other call names: a client forks by asking
for a copy of it. `python -m arpo_envs.hubs.mcp ARPO/Search-v0` serves one id on standard input and output.
"""

import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..tools.spec import ToolSpec
from .calls import require_fitting
from .episode import REFUSALS, maker
from .limits import Limits
from .sessions import Sessions

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

_LOG = logging.getLogger(__name__)
_SESSION = {"session": {"type": "string", "description": "the handle that reset or fork returned"}}
_RESET = {
    "seed": {"type": "integer", "minimum": 0, "description": "draws the task, and all else that is random"},
    "task": {"type": "string", "description": "the id of a task"},
}
_FORK = {
    "copies": {"type": "integer", "minimum": 1, "default": 1, "description": "how many"},
    "seed": {"type": "integer", "minimum": 0, "description": "reseeds them; without it, they keep the random state"},
}
RESET = ToolSpec("reset", "Begins an episode; returns its question and its session.", {"type": "object", "properties": _RESET})
FORK = ToolSpec("fork", "Copies a session; the copies go on independently.", {"type": "object", "properties": _FORK})
CLOSE = ToolSpec("close", "Ends a session.", {"type": "object", "properties": {}})


def make_server(env_id: str, *, limits: Limits = Limits(), **arguments: Any) -> "Server[Sessions]":
    """Returns a server for the tools of one id, to be run as the SDK runs any.

    Args:
        env_id: of the environment.
        limits: on sessions, idle time and memory; each run of the server has its own sessions.
        arguments: of `gym.make`.

    Raises:
        ConfigError: an argument is wrong, or the environment's tools cannot be offered.
    """
    import anyio
    from mcp.server.lowlevel import Server
    from mcp.shared.exceptions import MCPError
    from mcp_types import INTERNAL_ERROR, CallToolResult, ListToolsResult, TextContent, Tool

    make = maker(env_id, arguments)
    probe = make()
    try:
        specs, guidance = _offered(probe.tools), probe.guidance
    finally:
        probe.close()
    offered = ListToolsResult(
        tools=[
            Tool(name=spec.name, description=spec.description, input_schema=dict(spec.parameters)) for spec in specs.values()
        ]
    )

    @asynccontextmanager
    async def lifespan(server: "Server[Sessions]") -> AsyncIterator[Sessions]:
        sessions = Sessions(make, limits)
        async with sessions.served():
            yield sessions

    async def list_tools(context: Any, request: Any) -> Any:
        return offered

    async def call_tool(context: Any, request: Any) -> Any:
        call = partial(_called, context.lifespan_context, specs, request.name, request.arguments or {})
        try:
            said = await anyio.to_thread.run_sync(call)
        except REFUSALS as refused:
            return CallToolResult(content=[TextContent(text=str(refused))], is_error=True)
        except Exception as error:
            _LOG.exception("%s failed in %s", request.name, env_id)
            raise MCPError(INTERNAL_ERROR, "The environment failed; the server's log says how.") from error
        return CallToolResult(content=[TextContent(text=said["observation"])], structured_content=said)

    instructions = f"Begin with reset; name the session that it returns in every call. {guidance}".strip()
    return Server(env_id, instructions=instructions, lifespan=lifespan, on_list_tools=list_tools, on_call_tool=call_tool)


def _offered(tools: tuple[ToolSpec, ...]) -> dict[str, ToolSpec]:
    """Returns all that can be called by name, everything but `RESET` with a parameter for the session."""
    offered = {RESET.name: RESET}
    for spec in (FORK, CLOSE, *tools):
        properties = spec.parameters.get("properties", {})
        if spec.name in offered or "session" in properties:
            raise ConfigError(f"The tool {spec.name!r} cannot be offered: its name, or its parameter 'session', is taken.")
        schema = {"type": "object", **spec.parameters, "properties": {**_SESSION, **properties}}
        schema["required"] = ["session", *schema.get("required", ())]
        offered[spec.name] = ToolSpec(spec.name, spec.description, schema)
    return offered


def _called(sessions: Sessions, specs: Mapping[str, ToolSpec], name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what one call has to say: `observation`, and what else it returned."""
    require_fitting(name, given, list(specs.values()))
    if name == RESET.name:
        handle, step = sessions.open(**given)
        return {"session": handle, **asdict(step)}
    handle = given["session"]
    if name == FORK.name:
        handles = sessions.fork(handle, given.get("copies", 1), given.get("seed"))
        return {"observation": "\n".join(handles), "sessions": handles}
    if name == CLOSE.name:
        sessions.close(handle)
        return {"observation": "Closed."}
    with sessions.using(handle) as episode:
        step = episode.call(name, {key: value for key, value in given.items() if key != "session"})
    if step.done:
        with suppress(ConfigError):  # another call has closed it
            sessions.close(handle)
    return {"session": handle, **asdict(step)}


async def _serve(env_id: str) -> None:
    from mcp.server.stdio import stdio_server

    server = make_server(env_id)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    import anyio

    if len(sys.argv) != 2:
        raise SystemExit("Name one environment: python -m arpo_envs.hubs.mcp ARPO/Search-v0")
    anyio.run(_serve, sys.argv[1])
