"""Collects the trees of the next step while the learner updates, with the weights of before the update."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from arpo_envs import ConfigError

from ..algorithm import Algorithm
from ..tree import RolloutTree
from .published import Elsewhere

B = TypeVar("B")
T = TypeVar("T")


class Ahead(Generic[B]):
    """One step's trees on their way, and the weights that would give them again.

    Trees collected ahead are a function of the weights that the policy had before the update. Those are kept until the step
    that is trained on them is done: a run that is resumed collects the same trees once more.

    Args:
        steps: of the run; the last one collects nothing ahead.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.weights: dict[int, Mapping[str, Any]] = {}
        """By version: those with which a step under way was collected. A checkpoint after N steps must hold those of N - 1."""
        self.is_updating = False
        """Whether the learner is in the middle of an update, in another thread."""
        self._coming: tuple[int, asyncio.Task[B]] | None = None

    def require(self, algorithm: Algorithm) -> None:
        """Refuses an algorithm that importance sampling does not correct for older weights; see `require_correction`."""
        require_correction(algorithm)

    def measured(self, trees: Sequence[RolloutTree], step: int) -> Mapping[str, float]:
        """Returns how many updates the oldest weights that wrote something in a step's trees are behind those it began with.

        >>> Ahead(9).measured([], 3)
        {'staleness': 0.0}
        """
        written = [node.policy_version for tree in trees for node in tree.nodes if any(node.sampled)]
        return {"staleness": float(max((step - version for version in written), default=0))}

    async def alongside(self, update: Callable[[], T], step: int, collect: Callable[[], Coroutine[Any, Any, B]]) -> T:
        """Returns what an update of the learner returns; meanwhile, trees are collected, and later `take` returns them.

        Args:
            update: runs in another thread; if the wait for it is cancelled, it goes on, and `is_updating` stays true.
            step: that the trees are for; nothing is collected for one after the last.
            collect: returns its trees, with the weights that the policy has now.
        """
        if step < self.steps:
            self._coming = (step, asyncio.ensure_future(collect()))
        self.is_updating = True
        try:
            found = await asyncio.to_thread(update)
        except Exception:
            self.is_updating = False
            raise
        self.is_updating = False
        return found

    async def arrived(self) -> None:
        """Waits until nothing is collected any more: only then may the policy get other weights."""
        if self._coming is not None:
            await asyncio.wait([self._coming[1]])

    async def take(self, step: int) -> B | None:
        """Returns what was collected for a step, None if nothing was; an error is raised that collecting it raised."""
        if self._coming is None or self._coming[0] != step:
            return None
        coming, self._coming = self._coming[1], None
        return await coming

    def keep(self, version: int, weights: Mapping[str, Any]) -> None:
        """Keeps weights that the learner is about to change: a copy in memory; in files, those that engines have read."""
        from ..learner import copied

        if version not in self.weights:
            self.weights[version] = weights.kept() if isinstance(weights, Elsewhere) else copied(weights)

    def forget_before(self, version: int) -> None:
        """Drops weights that no step needs any more."""
        self.weights = {old: weights for old, weights in self.weights.items() if old >= version}

    async def close(self) -> None:
        """Breaks off what is being collected."""
        if self._coming is not None:
            coming, self._coming = self._coming[1], None
            coming.cancel()
            with suppress(asyncio.CancelledError, Exception):  # nobody needs it any more
                await coming


def require_correction(algorithm: Algorithm) -> None:
    """Refuses an algorithm that importance sampling does not correct for older weights.

    Raises:
        ConfigError: it has a value head, whose targets would be those of the older policy.
    """
    if "values" in algorithm.needs:
        raise ConfigError(
            f"{algorithm.name} cannot learn from trees collected ahead: importance sampling corrects what a policy with older "
            "weights wrote, but not the targets of a value head. Collect with the newest weights (--ahead 0), or choose an "
            "algorithm without a value head."
        )
