"""`collect`: grows one tree per prompt, one coroutine per path, forks by cloning the environment.

It works without the trainer.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import gymnasium as gym

from arpo_envs import ArpoError, ConfigError, NotForkable, wait_before_retry

from ..branching.strategy import BranchingStrategy
from ..policies import Policy
from ..rendering.renderer import Renderer
from ..tree import NO_PARENT, Node, RolloutTree, Status, total_tool_calls
from .clock import FreeClock, LogicalClock
from .environments import close_late
from .failures import Failures, reason
from .growth import Growth
from .planting import grow
from .run import Ended, Limits, MakeEnv, Neighbours, Run, Start
from .threads import ToolThreads

GROWN_AGAIN = ("trees_grown_again", "calls_lost", "tokens_lost")
"""What is recorded of trees whose tool was lost: how many were grown again, and the calls and tokens that this has cost."""
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
"""Seconds before trees whose tool was lost are grown again: doubled each time."""


class RolloutError(ArpoError):
    """Every path of a batch failed; the first failure is the cause."""


@dataclass(frozen=True)
class Trouble:
    """What went wrong in one tree.

    Args:
        failure: the first failure of one of its paths.
        mistake: the first error that the user must fix in the strategy.
        unforkable: why no fork of its environment can ever be made.
    """

    failure: Exception | None = None
    mistake: Exception | None = None
    unforkable: Exception | None = None


@dataclass(frozen=True)
class Collected:
    """The result of a batch of tasks.

    Args:
        trees: P frozen trees in the order of the tasks, each with exactly M leaves unless its strategy stopped early.
        troubles: P, what went wrong in each.
        clone_seconds: what cloning environments and taking snapshots took, added up over threads.
        counts: what else is worth recording of how they were collected, by name; `GROWN_AGAIN` at least.
    """

    trees: list[RolloutTree]
    troubles: Sequence[Trouble]
    clone_seconds: float
    counts: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def error(self) -> Exception | None:
        """What is wrong with the batch as a whole: every path failed, or the strategy asked for something impossible.

        None otherwise, however many single paths failed.
        """
        return self._mistake() or (self._lost() if all_failed(self.trees) else None)

    def _mistake(self) -> Exception | None:
        """Returns the error that the user must fix, even though some paths did not fail."""
        if (mistake := next((one.mistake for one in self.troubles if one.mistake is not None), None)) is not None:
            return mistake
        forks = [node for tree in self.trees for node in tree.nodes if node.origin == "branch"]
        if any(fork.status is not Status.CLONE_FAILED for fork in forks):
            return None
        return next((one.unforkable for one in self.troubles if one.unforkable is not None), None)

    def _lost(self) -> Exception:
        """Returns the error of a batch in which every path failed."""
        failure = next((one.failure for one in self.troubles if one.failure is not None), None)
        if isinstance(failure, ConfigError | NotForkable | gym.error.Error):
            return failure
        paths = sum(len(tree.leaves()) for tree in self.trees)
        error = RolloutError(f"All {paths} paths failed; the first because of: {failure!r}.")
        error.__cause__ = failure
        return error


def all_failed(trees: Sequence[RolloutTree]) -> bool:
    """Returns whether there are paths, and each failed through no fault of the model."""
    ends = [tree.nodes[leaf].status for tree in trees for leaf in tree.leaves()]
    return bool(ends) and not any(status is not None and status.is_model for status in ends)


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


class Collector(Protocol):
    """Grows trees as `try_collect` does, here or elsewhere."""

    def __call__(
        self,
        make_env: MakeEnv,
        tasks: Sequence[Start],
        policy: Policy,
        renderer: Renderer,
        algorithm: Rollouts,
        *,
        seed: int,
        step: int = 0,
        first: int = 0,
        limits: Limits = Limits(),
        failures: Failures | None = None,
    ) -> Awaitable[Collected]:
        """Returns the trees of the tasks; see `collect`."""
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
    first: int = 0,
    limits: Limits = Limits(),
    failures: Failures | None = None,
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
        first: position of the first task, where a batch is collected in parts; parts draw what the whole would.
        limits: see `Limits`.
        failures: reports and counts what fails; by default each distinct failure is logged once per call.

    Returns:
        P frozen trees in the order of `tasks`, each with exactly M leaves unless its strategy stopped early. A path that
        fails ends in a leaf whose status and `fault` say so.

    Raises:
        ConfigError: the parts do not fit together.
        NotForkable: the strategy forks, and no fork could be made because something can never be copied.
        RolloutError: every single path failed. If the first failure was a user's mistake (a `ConfigError` or an error from
            Gymnasium), that is raised instead.
    """
    found = await try_collect(
        make_env, tasks, policy, renderer, algorithm, seed=seed, step=step, first=first, limits=limits, failures=failures
    )
    if found.error is not None:
        raise found.error
    return found.trees


async def try_collect(
    make_env: MakeEnv,
    tasks: Sequence[Start],
    policy: Policy,
    renderer: Renderer,
    algorithm: Rollouts,
    *,
    seed: int,
    step: int = 0,
    first: int = 0,
    limits: Limits = Limits(),
    failures: Failures | None = None,
    ended: Ended | None = None,
    neighbours: Neighbours | None = None,
) -> Collected:
    """Grows trees as `collect` does, and returns them even where it would raise, so that a run can go on with them.

    A tree is a function of its task, the seed and the weights. So one whose tool was lost is not repaired but grown again. It
    may have been lost because of another tree, with which it shares the tool; so the last attempt is made by each alone.

    Args:
        make_env: see `collect`, as for the rest.
        tasks: P episodes to start.
        policy: draws the actions.
        renderer: speaks the environment's dialect and the policy's tokens.
        algorithm: gives the number of leaves per tree and where they branch off.
        seed: of the run.
        step: of the run.
        first: position of the first task.
        limits: see `Limits`.
        failures: reports and counts what fails.
        ended: is told of each path that ends, while others are still under way; None for nobody.
        neighbours: what is shared with trees of other calls, which go on at the same time; None if there are none.

    Raises:
        ConfigError: environment, renderer and strategy do not fit together, whatever the task.
    """
    if algorithm.rollouts < 1:
        raise ConfigError(f"An algorithm needs at least one rollout per prompt, got {algorithm.rollouts}.")
    failures = failures or Failures()
    beside = neighbours or neighbours_for(limits, failures)
    share = partial(
        Run,
        make_env=make_env,
        policy=policy,
        renderer=renderer,
        branching=algorithm.branching,
        rollouts=algorithm.rollouts,
        seed=seed,
        step=step,
        limits=limits,
        threads=beside.threads,
        failures=failures,
        ended=ended,
    )
    attempts = _Attempts(share, limits, beside)
    try:
        lost = await attempts.together(dict(enumerate(tasks, first)), last=limits.attempts == 1)
        for _ in range(limits.attempts - 2):
            lost = await attempts.together(lost, last=False)
        if limits.attempts > 1:
            await attempts.one_by_one(lost)
    finally:
        if neighbours is None:
            beside.close()
    return attempts.collected()


def neighbours_for(limits: Limits, failures: Failures) -> Neighbours:
    """Returns what trees share that grow at the same time; what comes too late to be used, and cannot be closed, is noted."""
    return Neighbours(ToolThreads(limits.threads, partial(close_late, failures)))


@dataclass
class _Attempts:
    """The trees of a batch, grown once or several times.

    Args:
        share: makes what all trees of an attempt share.
        limits: see `Limits`.
        neighbours: what grows at the same time.
    """

    share: Callable[..., Run]
    limits: Limits
    neighbours: Neighbours
    _latest: dict[int, Growth] = field(default_factory=dict)
    """By their positions in the batch."""
    _clone_seconds: float = 0.0
    _counts: Counter[str] = field(default_factory=Counter)
    _losses: int = 0
    """Attempts in a row in which a tool was lost."""

    async def together(self, starts: Mapping[int, Start], *, last: bool) -> dict[int, Start]:
        """Grows trees, by their positions in the batch; returns those whose tool was lost.

        Args:
            starts: their episodes.
            last: whether these are not grown again.
        """
        if not starts:
            return {}
        await self._pause()
        async with self.neighbours.beside_others():
            lost = await self._attempt(starts, last=last)
        if any(self._latest[index].tree.tool_calls().executed for index in starts.keys() - lost.keys()):
            self.neighbours.lost_alone = 0  # the tool has answered
        return lost

    async def one_by_one(self, starts: Mapping[int, Start]) -> None:
        """Grows trees for the last time, each alone, so that one that takes the tool down takes it from no other.

        Where several in a row lose it nevertheless, the tool itself is away: then the rest go together, and do not wait for it
        one after another.
        """
        waiting, beside = dict(starts), self.neighbours
        while waiting and not self._is_away():
            await self._pause()
            async with beside.alone():
                if not self._is_away():  # as others may have found meanwhile
                    now = {(index := next(iter(waiting))): waiting.pop(index)}
                    beside.lost_alone = beside.lost_alone + 1 if await self._attempt(now, last=True) else 0
        await self.together(waiting, last=True)

    def _is_away(self) -> bool:
        return self.neighbours.lost_alone >= self.limits.attempts

    async def _pause(self) -> None:
        if self._losses:
            await asyncio.sleep(wait_before_retry(self._losses - 1, first=_FIRST_WAIT, longest=_LONGEST_WAIT))

    async def _attempt(self, starts: Mapping[int, Start], *, last: bool) -> dict[int, Start]:
        growths = await _grown(partial(self.share, last=last), self.limits, starts)
        self._latest |= {growth.index: growth for growth in growths}
        self._clone_seconds += sum(growth.environments.clone_seconds for growth in growths)
        lost = [growth for growth in growths if growth.lost is not None]
        self._losses = self._losses + 1 if lost else 0
        if not last:
            self._counts.update(_cost([growth.tree for growth in lost]))
        return {growth.index: starts[growth.index] for growth in lost}

    def collected(self) -> Collected:
        """Returns all trees in the order of their tasks."""
        done = [self._latest[index] for index in sorted(self._latest)]
        troubles = [Trouble(growth.failure, growth.mistake, growth.environments.unforkable) for growth in done]
        counts = {name: float(self._counts[name]) for name in GROWN_AGAIN}
        return Collected([growth.tree for growth in done], troubles, self._clone_seconds, counts)


def _cost(trees: Sequence[RolloutTree]) -> dict[str, int]:
    """Returns what trees cost, by the names in `GROWN_AGAIN`."""
    calls = total_tool_calls(trees)
    tokens = sum(len(node.tokens) for tree in trees for node in tree.nodes if node.kind == "action")
    return dict(zip(GROWN_AGAIN, (len(trees), calls.executed + calls.replayed, tokens), strict=True))


async def _grown(share: Callable[..., Run], limits: Limits, starts: Mapping[int, Start]) -> list[Growth]:
    """Returns the trees of some tasks, by their positions in the batch."""
    growths: list[Growth] = []
    try:
        async with asyncio.TaskGroup() as group:
            clock = LogicalClock() if limits.mode == "deterministic" else FreeClock()
            run = share(clock=clock, group=group)
            growths += [Growth(run, index, start) for index, start in starts.items()]
            for growth in growths:
                run.launch(partial(grow, growth))
    except BaseExceptionGroup as errors:  # not `except*`, which would wrap what is raised here in a group again
        users, _ = errors.split(ArpoError)
        raise _first(users or errors) from None
    finally:
        for growth in growths:
            growth.environments.close_leftovers()
    return growths


def never_grown(tasks: Sequence[Start], rollouts: int, error: Exception, *, step: int = 0) -> Collected:
    """Returns the trees of tasks that could not even be begun, each with M failed leaves.

    Args:
        tasks: P episodes.
        rollouts: M, leaves per tree.
        error: why.
        step: of the run.
    """
    trees = []
    for start in tasks:
        tree = RolloutTree(meta={"seed": start.seed, "step": step})
        tree.add(Node((), NO_PARENT, 0, "prompt", (), (), (), ()))
        fields: dict[str, Any] = {"origin": "root", "status": Status.POLICY_FAULT, "fault": reason(error)}
        for ordinal in range(rollouts):
            tree.add(Node((ordinal,), 0, 0, "action", (), (), (), (), **fields))
        trees.append(tree.freeze())
    return Collected(trees, [Trouble(failure=error)] * len(trees), 0.0, dict.fromkeys(GROWN_AGAIN, 0.0))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
