"""`collect`: grows one tree per prompt, one coroutine per path, forks by cloning the environment.

Only this file and the two below it (`growth.py`: a tree, `travel.py`: a path) see environment, policy
and strategy together. It works without our trainer.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from arpo_envs import ArpoError, ConfigError

from .branching import BranchingStrategy
from .clock import Clock, FreeClock, LogicalClock
from .growth import Growth, Run, close_late
from .limits import Limits, MakeEnv, Start
from .policies import Policy
from .rendering import Renderer
from .threads import ToolThreads
from .tree import RolloutTree

__all__ = ["Limits", "MakeEnv", "RolloutError", "Rollouts", "Start", "collect"]


class RolloutError(ArpoError):
    """No path of a whole batch reached an end of its own; the first failure is the cause."""


class Rollouts(Protocol):
    """What `collect` needs of an algorithm."""

    @property
    def branching(self) -> BranchingStrategy:
        """Where trees grow."""
        ...

    @property
    def rollouts(self) -> int:
        """M, leaves per prompt."""
        ...


async def collect(
    make_env: MakeEnv,
    tasks: Sequence[Start],
    policy: Policy,
    renderer: Renderer,
    algorithm: Rollouts,
    *,
    seed: int,
    step: int = 0,
    limits: Limits = Limits(),
) -> list[RolloutTree]:
    """Grows one frozen tree per task.

    Args:
        make_env: returns a fresh environment whose observations and actions are text.
        tasks: P episodes to start.
        policy: draws the actions.
        renderer: speaks the environment's dialect and the policy's tokens.
        algorithm: gives the number of leaves per tree and where they branch off.
        seed: of the run; every draw is a function of (seed, step, position in tasks, node key).
        step: of the run.
        limits: see `Limits`.

    Returns:
        P frozen trees in the order of `tasks`, each with exactly M leaves unless its strategy stopped early.

    Raises:
        ConfigError: the parts do not fit together.
        RolloutError: every single path failed.
    """
    if algorithm.rollouts < 1:
        raise ConfigError(f"An algorithm needs at least one rollout per prompt, got {algorithm.rollouts}.")
    clock: Clock = LogicalClock() if limits.mode == "deterministic" else FreeClock()
    threads = ToolThreads(limits.threads, close_late)
    parts = (make_env, policy, renderer, algorithm.branching, algorithm.rollouts, seed, step, limits, clock, threads)
    growths: list[Growth] = []
    try:
        async with asyncio.TaskGroup() as group:
            growths += [Growth(Run(*parts, group), index, start) for index, start in enumerate(tasks)]
            for growth in growths:
                clock.join()
                group.create_task(growth.grow())
    except BaseExceptionGroup as errors:  # not `except*`, which would wrap what is raised here in a group again
        users, _ = errors.split(ArpoError)
        if users is None:
            raise
        raise _first(users) from None
    finally:
        threads.close()
        for growth in growths:
            growth.close_leftovers()
    failure = next((growth.failure for growth in growths if growth.failure is not None), None)
    ends = [growth.tree.nodes[leaf].status for growth in growths for leaf in growth.tree.leaves()]
    if failure is not None and not any(status is not None and status.is_model for status in ends):
        raise RolloutError(f"All {len(ends)} paths failed; the first because of: {failure!r}") from failure
    return [growth.tree for growth in growths]


def _first(group: BaseExceptionGroup[ArpoError]) -> ArpoError:
    error: ArpoError | BaseExceptionGroup[ArpoError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
