"""Any id for `verifiers`: a taskset, an environment whose loop is ours, and a harness; `pip install 'arpo-envs[verifiers]'`.

Their command line finds it under the name `arpo-envs-verifiers`:
`vf-eval arpo-envs-verifiers --env.taskset.env ARPO/Search-v0 --env.taskset.split test -n 20`.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, TypeVar

import verifiers.v1 as vf

from .episode import Episode, close_each, maker
from .verifiers_harness import ArpoHarness

__all__ = ["ArpoEnv", "ArpoHarness", "ArpoTaskset"]

T = TypeVar("T")


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
        """Plays one episode; records its reward, and the numbers of `info` as metrics, unless the model's server failed."""
        data, made = task.data, list[Episode]()
        try:
            await _to_its_end(lambda: made.append(maker(data.env, data.arguments)()))
            (episode,) = made
            await _to_its_end(partial(episode.reset, seed=data.seed))
            async with agents.player.interaction(task) as interaction:
                segment = await interaction.turn()
                while not segment.terminated:
                    if (step := await _to_its_end(partial(episode.act, segment.last_reply))).done:
                        break
                    segment = await interaction.turn(step.observation)
            if not interaction.trace.errors:
                interaction.trace.record_reward("reward", episode.score())
                interaction.trace.record_metrics(episode.numbers())
        finally:
            close_each(made)


async def _to_its_end(call: Callable[[], T]) -> T:
    """Calls in a thread; who cancels that waits until the call has ended, so that nothing is closed in the middle of it."""
    calling = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.wait([calling])
        raise
