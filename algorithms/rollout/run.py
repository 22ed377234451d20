"""What all trees of one `collect` share: the limits, and the two ways to start work, on the clock and in a thread.

`Neighbours` is what several calls share that overlap.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym

from arpo_envs import ConfigError

from ..branching.strategy import BranchingStrategy
from ..policies import Policy
from ..rendering.renderer import Renderer
from .clock import Clock
from .failures import Failures
from .threads import ToolThreads

TextEnv = gym.Env[Any, Any]
MakeEnv = Callable[[], TextEnv]
Ended = Callable[[int, int], None]
"""(position of a tree, how many of its paths have ended): told at each end; a tree that is grown again begins anew."""


@dataclass(frozen=True)
class Start:
    """Which episode a tree belongs to: the arguments of the environment's `reset`."""

    seed: int
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Limits:
    """How a rollout runs, and how much it may use.

    Raises:
        ConfigError: a number is out of range.
    """

    mode: Literal["deterministic", "free"] = "deterministic"
    """deterministic: the same seed gives byte-identical trees. free: no rollout waits for another, so the same seed may give
    different trees."""
    budget: Literal["shared", "per_root"] = "shared"
    """shared: all forks of a prompt draw on one pool, as in the paper; in deterministic mode they do so in key order.
    per_root: each root has its share, and each fork a part of that, so that even in free mode the shape of a tree does not
    depend on who comes first."""
    temperature: float = 1.0
    """Sampling temperature; the learner computes log-probabilities at the same temperature. Greedy decoding (0) is for
    evaluation only."""
    action_tokens: int = 512
    """Maximum tokens per action."""
    idle_turns: int = 3
    """End an episode as stalled after this many turns in a row without a call or an answer; 0: never."""
    answer_reserve: int = 64
    """Tokens of the context that no observation may fill."""
    policy_timeout: float = 600.0
    """Maximum seconds for one generation."""
    tool_timeout: float = 120.0
    """Maximum seconds for one environment step, clone or snapshot."""
    threads: int = 64
    """Maximum tool calls at the same time."""
    attempts: int = 3
    """How many times to grow a tree whose tool is lost (`arpo_envs.ToolLost`): the same tree each time, from its beginning;
    the last time alone."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.action_tokens < 1:
            raise ConfigError(f"action_tokens must be at least 1, got {self.action_tokens}.")
        if self.attempts < 1:
            raise ConfigError(f"attempts must be at least 1, got {self.attempts}.")
        if self.idle_turns < 0:
            raise ConfigError(f"idle_turns must be at least 1, or 0 for no limit, got {self.idle_turns}.")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all trees and trajectories of one `collect` share.

    Args:
        make_env: returns a fresh environment.
        policy: draws the actions.
        renderer: turns text into tokens, and back.
        branching: says where trees grow.
        rollouts: M, leaves per tree.
        seed: of the run.
        step: of the run; every draw is a function of (seed, step, position of the tree, node key).
        limits: see `Limits`.
        clock: says whose turn it is.
        threads: run what may block.
        failures: reports and counts what fails.
        last: whether trees whose tool was lost are not grown again.
        ended: is told of each path that ends; None for nobody.
        group: holds the tasks of all trees and trajectories.
    """

    make_env: MakeEnv
    policy: Policy
    renderer: Renderer
    branching: BranchingStrategy
    rollouts: int
    seed: int
    step: int
    limits: Limits
    clock: Clock
    threads: ToolThreads
    failures: Failures
    last: bool
    ended: Ended | None
    group: asyncio.TaskGroup

    def launch(self, life: Callable[[], Awaitable[None]]) -> None:
        """Starts a tree or a trajectory, which is on the clock from this moment until it ends."""
        self.clock.join()  # not in its own task: the clock could go on before that task begins
        self.group.create_task(self._until_end(life))

    async def _until_end(self, life: Callable[[], Awaitable[None]]) -> None:
        try:
            await life()
        finally:
            self.clock.leave()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs something that may block, in a thread and within the tool timeout."""
        return await self.threads.run(self.limits.tool_timeout, function, *arguments)


class Neighbours:
    """What trees share that grow at the same time, also those of several calls: threads, and the right to grow alone.

    Args:
        threads: run what may block.
    """

    def __init__(self, threads: ToolThreads) -> None:
        self.threads = threads
        self.lost_alone = 0
        """How many attempts in a row have lost their tool although nothing else grew."""
        self._growing = 0
        self._gate = asyncio.Lock()
        self._quiet = asyncio.Event()

    @asynccontextmanager
    async def beside_others(self) -> AsyncIterator[None]:
        """Waits as long as somebody is alone, or wants to be."""
        async with self._gate:
            self._growing += 1
        try:
            yield
        finally:
            self._growing -= 1
            self._quiet.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Waits until nothing grows, and keeps everything from beginning."""
        async with self._gate:
            while self._growing:
                self._quiet.clear()
                await self._quiet.wait()
            yield

    def close(self) -> None:
        """Lets the idle threads end."""
        self.threads.close()


def split_evenly(total: int, parts: int) -> list[int]:
    """Returns `total` in `parts` shares that differ by at most one, the larger ones first.

    >>> split_evenly(5, 3)
    [2, 2, 1]
    """
    return [total // parts + (part < total % parts) for part in range(parts)]
