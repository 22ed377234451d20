"""Any id for `verifiers`: a taskset, an environment whose loop is ours, and a harness; `pip install 'arpo-envs[verifiers]'`.

Their command line finds it under the name `arpo-envs-verifiers`:
`vf-eval arpo-envs-verifiers --env.taskset.env ARPO/Search-v0 --env.taskset.split test -n 20`.
"""

import asyncio
import itertools
import json
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import cache
from typing import Any, ClassVar

import httpx
import verifiers.v1 as vf
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.harnesses.utils.compaction import bound_tool_message
from verifiers.v1.harnesses.utils.mcp import call_mcp, connect_mcp
from verifiers.v1.runtimes import ProgramResult

from .episode import Episode, maker

__all__ = ["ArpoEnv", "ArpoHarness", "ArpoTaskset"]


class ArpoConfig(vf.TasksetConfig):  # type: ignore[misc]  # here and below: not installed where types are checked
    """Which tasks of which environment; the i-th is the one that `reset(seed=seed + i)` draws."""

    env: str = "ARPO/Search-v0"
    """An id."""
    split: str | None = None
    """The environment's split; None for its default."""
    seed: int = 0
    """Of the first task."""
    arguments: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies it
    """Other arguments of `gym.make`."""


class ArpoData(vf.TaskData):  # type: ignore[misc]
    """A task as it is recorded: what makes its episode, never its answers."""

    env: str
    arguments: dict[str, Any]
    seed: int


class ArpoTask(vf.Task[ArpoData, vf.State, vf.TaskConfig]):  # type: ignore[misc]
    """A task of an environment, which alone scores it."""


class ArpoTaskset(vf.Taskset[ArpoTask, ArpoConfig]):  # type: ignore[misc]
    """The tasks of one id, as many as are asked for."""

    INFINITE: ClassVar[bool] = True

    def load(self) -> Iterator[ArpoTask]:
        """Yields the tasks in the order of their seeds."""
        config = self.config
        split = {} if config.split is None else {"split": config.split}
        arguments = {**config.arguments, **split}
        episode = maker(config.env, arguments)()
        try:
            for seed in itertools.count(config.seed):
                step = episode.reset(seed=seed)
                told = {"prompt": step.observation, "system_prompt": episode.instructions or None}
                name = str(step.info.get("task", f"{config.env}#{seed}"))
                yield ArpoTask(ArpoData(name=name, env=config.env, arguments=arguments, seed=seed, **told), config.task)
        finally:
            episode.close()


class ArpoEnvConfig(vf.EnvConfig):  # type: ignore[misc]
    """Who plays."""

    player: vf.AgentConfig = vf.AgentConfig(runtime={"type": "subprocess"})


class ArpoEnv(vf.Env[ArpoEnvConfig]):  # type: ignore[misc]
    """Plays the environment as the user of the conversation: a reply is an action, its observation the next message."""

    async def run(self, task: ArpoTask, agents: Any) -> None:
        """Plays one episode; records its reward, and the numbers of `info` as metrics."""
        data = task.data
        episode: Episode = await asyncio.to_thread(maker(data.env, data.arguments))
        try:
            await asyncio.to_thread(episode.reset, seed=data.seed)
            async with agents.player.interaction(task) as interaction:
                segment = await interaction.turn()
                while not segment.terminated:
                    step = await asyncio.to_thread(episode.act, segment.last_reply)
                    if step.done:
                        break
                    segment = await interaction.turn(step.observation)
            interaction.trace.record_reward("reward", episode.score())
            interaction.trace.record_metrics(episode.numbers())
        finally:
            episode.close()


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
