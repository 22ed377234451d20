"""Episodes of `verifiers` that wait whenever their model is asked, so that somebody else can write the reply.

Everything runs as `verifiers` runs it, in a thread with an event loop of its own; only the model's endpoint is ours.
"""

import asyncio
import contextlib
import copy
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import Any

from aiohttp import web
from verifiers.v1.clients import EvalClientConfig, ModelContext

from ..errors import ConfigError, ToolFault
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


class VerifiersEpisode:
    """One episode of an environment; its thread, loop, tool servers and endpoint end with it.

    Args:
        env: the environment; its state is that of one run at a time, so the episode has a shallow copy.
        seat: the agent that acts.
        task: one of its tasks.
    """

    def __init__(self, env: Any, seat: str, task: Any) -> None:
        self._env, self._seat, self._task, self._name = copy.copy(env), seat, task, env.config.env_id
        self._events: SimpleQueue[Told | Exception] = SimpleQueue()
        self._begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()
        self._reply: asyncio.Future[Mapping[str, Any]] | None = None
        self._conversation, self._read = "", 0
        self._thread = Thread(target=lambda: asyncio.run(self._run()), name=f"verifiers {self._name}", daemon=True)
        self._thread.start()

    def next(self) -> Told:
        """Returns what the model is told next, when it is asked for a reply, or how the episode ended.

        Raises:
            ConfigError: the environment is of a kind that cannot be stepped.
            ToolFault: it failed.
        """
        event = self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def say(self, message: Mapping[str, Any]) -> None:
        """Gives the model's reply: a message as OpenAI's interface has it."""
        with contextlib.suppress(RuntimeError):  # it has ended meanwhile, by a time-out: next() says so
            self._begun.result()[0].call_soon_threadsafe(self._said, message)

    def _said(self, message: Mapping[str, Any]) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(message)

    def close(self) -> None:
        """Ends the episode wherever it is, and waits until all that ran for it has ended."""
        loop, running = self._begun.result()
        with contextlib.suppress(RuntimeError):  # its loop is closed, because it has ended
            loop.call_soon_threadsafe(running.cancel)
        self._thread.join()

    async def _run(self) -> None:
        running = asyncio.current_task()
        assert running is not None
        self._begun.set_result((asyncio.get_running_loop(), running))
        try:
            async with self._endpoint() as url:
                client = EvalClientConfig(base_url=url, api_key_var="ARPO_ENVS_NEEDS_NO_KEY")
                async with self._env.serving():
                    episode = await self._env.run_episode(self._task, ModelContext(model="policy", client=client))
            self._events.put(self._ending(episode))
        except asyncio.CancelledError:
            return  # by close(): nobody waits for what comes
        except Exception as error:  # noqa: BLE001  # an environment may fail in any way; next() raises it
            self._events.put(self._failure(type(error).__name__, error))

    @contextlib.asynccontextmanager
    async def _endpoint(self) -> AsyncIterator[str]:
        """Serves chat completions on loopback, under a path that nobody else knows; yields its address."""
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
            self._events.put(error)
            return web.Response(status=409, text=str(error))
        self._reply = asyncio.get_running_loop().create_future()
        self._events.put(told)
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

    def _ending(self, episode: Any) -> Told | Exception:
        if not episode.ok:
            errors = [*episode.errors, *(error for trace in episode.traces for error in trace.errors)]
            return self._failure(errors[0].type, errors[0].message)
        (trace,) = [trace for trace in episode.traces if trace.agent.name == self._seat]
        numbers = {name: reward.value for name, reward in trace.rewards.items() if reward is not None}
        numbers |= {name: value for name, value in trace.metrics.items() if value is not None}
        return Told(over=True, reward=float(trace.reward), truncated=trace.is_truncated or trace.is_timeout, numbers=numbers)

    def _failure(self, kind: str, message: object) -> ToolFault:
        return ToolFault(f"{self._name} failed at its task {self._task.data.name or self._task.data.idx}: {kind}: {message}")
