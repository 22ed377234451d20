"""The trees that a worker grows at the same time: prompts join one after the other, and trees leave as they end."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..branching.strategy import BranchingStrategy
from ..policies import AT_ONCE, Policy
from ..rendering.renderer import Renderer
from ..rollout import Collected, Failures, Limits, MakeEnv, Neighbours, Start, Trouble, neighbours_for, try_collect
from ..tree import Status
from .parcel import packed, portable

OVERBOOKED = 4
"""Leaves of the trees under way for each request that the policy draws at a time: some have not begun yet, some have ended, and
some wait for tools. In simulations, more than four make rollouts hardly shorter, unless tools take much longer than drawing."""
_BY_POLICY = (Status.POLICY_FAULT, Status.POLICY_TIMEOUT)


@dataclass(frozen=True)
class Plan:
    """What all rollouts of a batch have in common; it is pickled once per batch.

    Args:
        make_env: returns a fresh environment.
        branching: where trees grow.
        rollouts: M, leaves per tree.
        seed: of the run.
        step: of the run.
        limits: of the rollouts.
    """

    make_env: MakeEnv
    branching: BranchingStrategy
    rollouts: int
    seed: int
    step: int
    limits: Limits


@dataclass(frozen=True)
class Gathered:
    """The trees of some prompts.

    Args:
        positions: of the prompts in the batch.
        trees: theirs, as `packed`.
        troubles: what went wrong in each tree.
        clone_seconds: see `rollout.Collected`.
        counts: the same.
        noted: what failed, why, and how many leaves it cost.
        by_policy: whether a leaf failed because of the policy.
    """

    positions: Sequence[int]
    trees: bytes
    troubles: Sequence[Trouble]
    clone_seconds: float
    counts: Mapping[str, float]
    noted: Sequence[tuple[str, BaseException, int]]
    by_policy: bool


class _Grown(NamedTuple):
    """A tree that has ended, with its position and what failed."""

    position: int
    found: Collected
    remembered: "_Remembered"


class Growing:
    """Grows trees beside each other, each by a clock of its own, so that none waits for the tools of another.

    Args:
        plan: what they have in common.
        policy: draws their actions.
        renderer: speaks the environments' dialect and the policy's tokens.
    """

    def __init__(self, plan: Plan, policy: Policy, renderer: Renderer) -> None:
        self.plan = plan
        self._policy, self._renderer = policy, renderer
        self._late = _Remembered()
        self._neighbours: Neighbours | None = None
        """What those share that are under way; None while none is, so that no thread waits for the next batch."""
        self._under_way: set[asyncio.Task[_Grown]] = set()

    @property
    def room(self) -> int:
        """How many trees should be under way: the policy mostly has something to draw, and hardly anything waits for it."""
        return max(1, OVERBOOKED * AT_ONCE.of(self._policy) // max(1, self.plan.rollouts))

    def add(self, starts: Mapping[int, Start]) -> None:
        """Begins trees.

        Args:
            starts: their episodes, by their positions in the batch.
        """
        if starts and self._neighbours is None:
            self._neighbours = neighbours_for(self.plan.limits, self._late)
        self._under_way |= {asyncio.ensure_future(self._grow(position, start)) for position, start in starts.items()}

    async def ended(self) -> Gathered:
        """Waits until a tree ends; returns all that have.

        Raises:
            ConfigError: environment, renderer and strategy do not fit together, whatever the task.
        """
        ended, self._under_way = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        if not self._under_way:
            self._close()
        grown = sorted((one.result() for one in ended), key=lambda one: one.position)
        counts = sum((Counter(one.found.counts) for one in grown), Counter[str]())
        return Gathered(
            tuple(one.position for one in grown),
            packed(tree for one in grown for tree in one.found.trees),
            [_portable(trouble) for one in grown for trouble in one.found.troubles],
            sum(one.found.clone_seconds for one in grown),
            counts,
            [*self._late.taken(), *(noted for one in grown for noted in one.remembered.taken())],
            any(map(_is_by_policy, grown)),
        )

    async def end(self) -> None:
        """Ends all that is under way."""
        for one in self._under_way:
            one.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._under_way = set()
        self._close()

    def _close(self) -> None:
        if self._neighbours is not None:
            self._neighbours.close()
            self._neighbours = None

    async def _grow(self, position: int, start: Start) -> _Grown:
        remembered, plan = _Remembered(), self.plan
        found = await try_collect(
            plan.make_env,
            [start],
            self._policy,
            self._renderer,
            plan,
            seed=plan.seed,
            step=plan.step,
            first=position,
            limits=plan.limits,
            failures=remembered,
            neighbours=self._neighbours,
        )
        return _Grown(position, found, remembered)


def _is_by_policy(grown: _Grown) -> bool:
    """Whether a leaf failed because of the policy."""
    return any(tree.nodes[leaf].status in _BY_POLICY for tree in grown.found.trees for leaf in tree.leaves())


class _Remembered(Failures):
    """Keeps failures for the process that reports them."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[tuple[str, BaseException, int]] = []

    def note(self, what: str, error: BaseException, count: int = 1) -> None:
        self._noted.append((what, portable(error), count))

    def taken(self) -> list[tuple[str, BaseException, int]]:
        """Returns what was noted since the last time."""
        noted, self._noted = self._noted, []
        return noted


def _portable(trouble: Trouble) -> Trouble:
    changes = {name: portable(error) for name, error in vars(trouble).items() if error is not None}
    return replace(trouble, **changes)
