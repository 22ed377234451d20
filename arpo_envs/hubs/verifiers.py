"""Any id for `verifiers`: a taskset, an environment whose loop is ours, and a harness; `pip install 'arpo-envs[verifiers]'`.

Their command line finds it under the name `arpo-envs-verifiers`:
`vf-eval arpo-envs-verifiers --env.taskset.env ARPO/Search-v0 --env.taskset.split test -n 20`.
"""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import verifiers.v1 as vf
from verifiers.v1.dialects.chat import message_to_wire
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
    """One reply of the model for each message, asked for in this process: no program is installed or started."""

    APPENDS_SYSTEM_PROMPT: ClassVar[bool] = True
    SUPPORTS_RESUME: ClassVar[bool] = True
    EXECUTES_CODE: ClassVar[bool] = False
    NEEDS_CONTAINER: ClassVar[bool] = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: dict[str, str], data: Any
    ) -> ProgramResult:
        """Asks for one reply to the conversation so far."""
        system, prompt = self.resolve_prompt(data)
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "user", "content": prompt}] if isinstance(prompt, str) else map(message_to_wire, prompt or [])
        async with httpx.AsyncClient(timeout=None) as client:  # the run's own time-outs hold
            reply = await client.post(
                f"{endpoint}/chat/completions",
                headers={"Authorization": f"Bearer {secret}"},
                json={"model": ctx.model, "messages": messages},
            )
        return ProgramResult(exit_code=int(reply.is_error), stdout="", stderr=reply.text if reply.is_error else "")
