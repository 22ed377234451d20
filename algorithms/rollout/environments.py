"""The environments of one tree: the episode is opened, cloned for every fork, parked where it may fork later, and closed."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

from arpo_envs import CloneError, ForkLevel, NotForkable, Snapshot, clone_many, fork_level, snapshot

from .failures import Failures
from .run import Run, Start, TextEnv


class Environments:
    """All environments of one tree; each trajectory gets one of its own.

    Args:
        run: makes them, and runs what may block.
        start: the episode.
    """

    def __init__(self, run: Run, start: Start) -> None:
        self._run, self._start = run, start
        self.unforkable: NotForkable | None = None
        """The first error that says that a fork can never be made."""
        self._first: TextEnv | None = None
        self._seconds: list[float] = []
        self._live: set[TextEnv] = set()
        self._parked: dict[int, Snapshot] = {}
        self._unparked: dict[int, Exception] = {}

    @property
    def clone_seconds(self) -> float:
        """Returns what cloning and snapshots have taken so far, in the threads where they ran."""
        return sum(self._seconds)

    async def open(self) -> tuple[TextEnv, str, dict[str, Any]]:
        """Starts the episode; returns the environment, which stays at its beginning, with the task's text and `info`."""
        env, text, info = await self._run.call(self._start_episode)
        self._first = env
        self._live.add(env)
        return env, text, info

    async def after(self, node: int, seeds: Sequence[int]) -> "list[TextEnv | CloneError]":
        """Returns one environment per seed in the state after a node, the prompt or a parked one; a failure is a value."""
        assert self._first is not None
        if node == 0 and fork_level(self._first) is ForkLevel.NONE:
            return list(await asyncio.gather(*(self._restarted() for _ in seeds)))
        source = self._first if node == 0 else self._parked.get(node)
        if source is None:
            return [_because("No snapshot could be taken at this place.", self._unparked.get(node))] * len(seeds)
        return await self.clone(source, seeds)

    async def clone(self, source: TextEnv | Snapshot, seeds: Sequence[int]) -> "list[TextEnv | CloneError]":
        """Returns one reseeded clone per seed; a failure is a value."""
        try:
            if isinstance(source, Snapshot):
                envs: list[TextEnv | CloneError] = await self._run.call(self._timed, source.spawn_many, seeds)
            else:
                envs = await self._run.call(self._timed, clone_many, source, seeds)
        except Exception as error:  # noqa: BLE001  # a tool may fail to clone in any way; the other paths go on
            self.note_unforkable(error)
            return [_because(f"Cloning failed: {error!r}", error)] * len(seeds)
        self._live.update(env for env in envs if not isinstance(env, CloneError))
        return envs

    async def park(self, env: TextEnv, node: int) -> int:
        """Keeps a snapshot of the state after a node until the tree closes; returns how many tool calls it ran again."""
        try:
            parked: Snapshot = await self._run.call(self._timed, snapshot, env)
        except Exception as error:  # noqa: BLE001  # the path itself can go on; nothing will grow here
            self.note_unforkable(error)
            self._unparked[node] = error
            self._run.failures.note("no snapshot", error)
            return 0
        self._parked[node] = parked
        return parked.replayed_calls

    async def discard(self, env: TextEnv | Snapshot) -> None:
        """Closes an environment that is no longer needed."""
        try:
            await self._run.call(env.close)
        except Exception as error:  # noqa: BLE001  # the episode is over either way
            self._run.failures.note("not closed", error)
        if not isinstance(env, Snapshot):
            self._live.discard(env)

    async def close(self) -> None:
        """Closes what outlives the trajectories: the parked environments and the first one."""
        for parked in self._parked.values():
            await self.discard(parked)
        if self._first is not None:
            await self.discard(self._first)

    def close_leftovers(self) -> None:
        """Closes what a cancelled tree could not."""
        close_late(self._run.failures, [*self._live, *self._parked.values()])

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs something in its thread and notes how long it took; its result stays as it is, also if it comes too late."""
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self._seconds.append(time.perf_counter() - began)

    def _start_episode(self) -> tuple[TextEnv, str, dict[str, Any]]:
        env = self._run.make_env()
        options = dict(self._start.options) if self._start.options is not None else None
        try:
            text, info = env.reset(seed=self._start.seed, options=options)
            return env, str(text), dict(info)
        except BaseException:
            env.close()
            raise

    async def _restarted(self) -> "TextEnv | CloneError":
        """Returns a fresh environment at the beginning of this episode; a failure is a value."""
        try:
            env: TextEnv = (await self._run.call(self._start_episode))[0]
        except Exception as error:  # noqa: BLE001  # an environment may fail in any way; its leaf will say so
            return _because(f"The episode could not be started again: {error!r}", error)
        self._live.add(env)
        return env

    def note_unforkable(self, error: Exception) -> None:
        """Remembers that something can never be copied: if no other fork works either, the user must fix it."""
        if isinstance(error, NotForkable):
            self.unforkable = self.unforkable or error


def _because(message: str, cause: Exception | None) -> CloneError:
    """Returns the error of a child that could not be made, and what caused it, by which one sees whether a tool was lost."""
    error = CloneError(message)
    error.__cause__ = cause
    return error


def close_late(failures: Failures, result: Any) -> None:
    """Closes the environments in a result that nobody waits for any more."""
    for item in result if isinstance(result, list | tuple) else [result]:
        if isinstance(item, gym.Env | Snapshot):
            try:
                item.close()
            except Exception as error:  # noqa: BLE001  # nobody needs it any more
                failures.note("not closed", error)
