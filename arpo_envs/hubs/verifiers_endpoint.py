"""A model's endpoint that waits whenever it is asked, so that somebody else can write the reply."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ..dialects import Dialect
from ..errors import ConfigError
from ..tools.spec import ToolSpec

_LARGEST = 64 * 1024 * 1024
"""Bytes of a conversation that is sent to the endpoint."""


@dataclass(frozen=True)
class Told:
    """What an environment says to its model, or how the episode ended.

    Args:
        messages: roles and texts that are new.
        tools: what the model may call.
        over: whether the episode has ended.
        reward: the sum of the weighted rewards.
        truncated: whether a limit or a time-out ended it.
        numbers: rewards and metrics by name.
    """

    messages: tuple[tuple[str, str], ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    over: bool = False
    reward: float = 0.0
    truncated: bool = False
    numbers: dict[str, float] = field(default_factory=dict)

    def text(self, dialect: Dialect | None) -> str:
        """Returns the messages as an observation; in a dialect, only what a tool has returned can look like a result."""
        if dialect is None:
            return "\n\n".join(text for _, text in self.messages)
        return "\n\n".join(dialect.result(text) if role == "tool" else dialect.neutralise(text) for role, text in self.messages)


class Endpoint:
    """Chat completions of one conversation, on loopback.

    Args:
        name: what errors call the environment.
        tell: is given what the environment says, or what is wrong with it, whenever a reply is asked for.
    """

    def __init__(self, name: str, tell: Callable[[Told | Exception], None]) -> None:
        self._name, self._tell = name, tell
        self._reply: asyncio.Future[Mapping[str, Any]] | None = None
        self._conversation, self._read = "", 0

    def say(self, message: Mapping[str, Any]) -> None:
        """Replies, if anybody still waits for it: a message as OpenAI's interface has it."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(message)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Serves under a path that nobody else knows; yields the address."""
        path = f"/{secrets.token_urlsafe(16)}"
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post(f"{path}/chat/completions", self._asked)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
        finally:
            if self._reply is not None:
                self._reply.cancel()
            await runner.cleanup()

    async def _asked(self, request: web.Request) -> web.Response:
        """Waits for the reply to a request of the harness."""
        try:
            told = self._told(request.headers.get("X-Session-ID", ""), json.loads(await request.text()))
        except ConfigError as error:
            self._tell(error)
            return web.Response(status=409, text=str(error))
        self._reply = asyncio.get_running_loop().create_future()
        self._tell(told)
        message = await self._reply
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        completion = {"id": "1", "object": "chat.completion", "created": 0, "model": "policy", "usage": usage}
        return web.json_response({**completion, "choices": [choice]})

    def _told(self, conversation: str, body: Mapping[str, Any]) -> Told:
        self._conversation = self._conversation or conversation
        if conversation != self._conversation:
            raise ConfigError(f"{self._name} has several conversations in one episode; here an episode is one.")
        messages = body["messages"]
        new, self._read = messages[self._read :], len(messages) + 1
        return Told(
            tuple((message["role"], self._text(message.get("content"))) for message in new),
            tuple(ToolSpec(**tool["function"]) for tool in body.get("tools", ())),
        )

    def _text(self, content: Any) -> str:
        parts = [{"type": "text", "text": content or ""}] if isinstance(content, str | None) else list(content)
        if strange := {part["type"] for part in parts} - {"text"}:
            raise ConfigError(f"{self._name} shows its model {', '.join(sorted(strange))}; here all is text.")
        return "\n".join(part["text"] for part in parts)
