"""What all trees of one `collect` share, and the two ways to start work: on the clock, and in a thread."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..branching.strategy import BranchingStrategy
from ..policies import Policy
from ..rendering.renderer import Renderer
from .clock import Clock
from .failures import Failures
from .limits import Limits, MakeEnv
from .threads import ToolThreads


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
