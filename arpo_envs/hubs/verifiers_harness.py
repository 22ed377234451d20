"""The program that asks the model, for our tasks and for others' that are played from here: it runs in this process."""

import json
import ssl
from contextlib import AsyncExitStack
from functools import cache
from typing import Any, ClassVar

import httpx
import verifiers.v1 as vf
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.harnesses.utils.compaction import bound_tool_message
from verifiers.v1.harnesses.utils.mcp import call_mcp, connect_mcp
from verifiers.v1.runtimes import ProgramResult


class ArpoHarness(vf.Harness[vf.HarnessConfig]):  # type: ignore[misc]
    """Asks for replies in this process until one calls no tool: no program is installed or started."""

    APPENDS_SYSTEM_PROMPT: ClassVar[bool] = True
    SUPPORTS_MCP: ClassVar[bool] = True
    SUPPORTS_RESUME: ClassVar[bool] = True
    EXECUTES_CODE: ClassVar[bool] = False
    NEEDS_CONTAINER: ClassVar[bool] = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: dict[str, str], data: Any
    ) -> ProgramResult:
        """Asks for replies to the conversation so far, and calls the tools that they call."""
        system, prompt = self.resolve_prompt(data)
        messages: list[Any] = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "user", "content": prompt}] if isinstance(prompt, str) else map(message_to_wire, prompt or [])
        servers = {name: {"url": url, "timeout": self.config.tool_timeout} for name, url in mcp_urls.items()}
        async with AsyncExitStack() as stack:
            schemas, dispatch, connections = await connect_mcp({"mcpServers": servers}, stack)
            # without a time-out: the run's own hold
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=None, verify=_certificates()))
            while True:
                reply = await client.post(
                    f"{endpoint}/chat/completions",
                    headers={"Authorization": f"Bearer {secret}"},
                    json={"model": ctx.model, "messages": messages, **({"tools": schemas} if schemas else {})},
                )
                if reply.is_error:
                    return ProgramResult(exit_code=1, stdout="", stderr=reply.text)
                messages.append(reply.json()["choices"][0]["message"])
                if not (calls := messages[-1].get("tool_calls")):
                    return ProgramResult(exit_code=0, stdout="", stderr="")
                for call in calls:
                    content = await _result(call["function"], connections, dispatch)
                    told = {"role": "tool", "tool_call_id": call["id"], "content": content, "name": call["function"]["name"]}
                    messages.append(bound_tool_message(told))


@cache
def _certificates() -> ssl.SSLContext:
    """Returns what httpx would load anew for each reply, which takes longer than the reply."""
    return httpx.create_ssl_context()


async def _result(function: dict[str, str], connections: Any, dispatch: Any) -> Any:
    """Returns what a call came to; what is wrong with it, in the words of verifiers' own chat program."""
    name = function["name"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except json.JSONDecodeError as error:
        return f"error: invalid JSON in tool arguments ({error}); resend the call with valid JSON"
    if not isinstance(arguments, dict):
        return f"error: tool arguments must be a JSON object, got {type(arguments).__name__}; resend as an object"
    return await call_mcp(connections, dispatch, name, arguments) if name in dispatch else f"error: unknown tool {name!r}"
