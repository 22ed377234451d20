"""The state of one tree while it grows: its nodes, what is left of its budget, the next keys, and what failed.

`planting.py` changes it for the whole tree, `trajectory.py` for one path.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from arpo_envs import ConfigError

from .. import seeds
from ..tree import Node, Origin, RolloutTree, Status, repeated
from .environments import Environments
from .failures import is_lost, reason
from .run import Run, Start


class Growth:
    """One tree while it grows.

    Args:
        run: what it shares with the other trees.
        index: its position among them.
        start: its episode.
    """

    def __init__(self, run: Run, index: int, start: Start) -> None:
        self.run, self.index = run, index
        self.tree = RolloutTree(meta={"seed": start.seed, "step": run.step})
        self.environments = Environments(run, start)
        self.agent = ""
        """Whose tree it is, where several agents act."""
        self.failure: Exception | None = None
        """The first failure of a trajectory; the other trajectories went on."""
        self.mistake: ConfigError | None = None
        """The first error that the user must fix in the strategy."""
        self.lost: Exception | None = None
        """The first failure of a trajectory that another attempt at the whole tree may be spared."""
        self.running = 0
        """Trajectories under way."""
        self._allotted = 0
        self._quiet = asyncio.Event()
        self._ordinals: dict[int, int] = {}
        self._noted: list[tuple[Status, Exception, int]] = []

    # --- the budget ---------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Leaves that are still missing."""
        return self.run.rollouts - self._allotted

    def forks_left(self, quota: int) -> int:
        """Returns how many siblings a trajectory with this share of the budget may still add."""
        return min(self.left, quota) if self.run.limits.budget == "per_root" else self.left

    def allot(self, parent: int, count: int) -> list[tuple[int, ...]]:
        """Takes `count` trajectories from the budget and returns their keys, children of `parent`."""
        self._allotted += count
        self.running += count
        self._quiet.clear()
        return [self.next_key(parent) for _ in range(count)]

    def landed(self) -> None:
        """Says that an allotted trajectory ended."""
        self.running -= 1
        self._tell()
        if self.running == 0:
            self._quiet.set()

    def _tell(self) -> None:
        if self.run.ended is not None:
            self.run.ended(self.index, self._allotted - self.running)

    async def quiet(self) -> None:
        """Waits until no trajectory is running."""
        await self._quiet.wait()

    # --- keys and draws -----------------------------------------------------------------------------------

    def next_key(self, parent: int) -> tuple[int, ...]:
        """Returns the next child's key; child 0 of an action is the observation that follows it."""
        node = self.tree.nodes[parent]
        ordinal = self._ordinals.get(parent, 1 if node.kind == "action" else 0)
        self._ordinals[parent] = ordinal + 1
        return (*node.key, ordinal)

    def seed(self, key: tuple[int, ...], purpose: Literal["action", "env"]) -> int:
        """Returns the seed of a node for one purpose."""
        return seeds.derive(self.run.seed, self.run.step, self.index, key, purpose)

    def generator(self, purpose: Literal["plan", "branch"], which: int | tuple[int, ...]) -> np.random.Generator:
        """Returns what the strategy draws from at one of its decisions."""
        return seeds.generator(self.run.seed, self.run.step, self.index, purpose, which)

    # --- nodes, and what fails ------------------------------------------------------------------------------

    def add(
        self,
        kind: Literal["prompt", "action", "observation"],
        key: tuple[int, ...],
        parent: int,
        parent_at: int,
        tokens: Sequence[int],
        **fields: Any,
    ) -> int:
        """Appends a node and returns its index; tokens that no policy drew get log-probabilities and entropies of 0."""
        if "sampled" not in fields:
            fields |= {name: repeated(0, len(tokens), name) for name in ("sampled", "logprobs", "entropies")}
        return self.tree.add(Node(key, parent, parent_at, kind, tokens, agent=self.agent, **fields))

    def add_failed(
        self, key: tuple[int, ...], parent: int, parent_at: int, origin: Origin, status: Status, error: Exception
    ) -> None:
        """Appends the leaf of a trajectory that never began."""
        self.add("action", key, parent, parent_at, (), origin=origin, status=status, fault=reason(error))

    def note(self, status: Status, error: Exception, count: int = 1) -> None:
        """Records why one or several trajectories failed; reported when the tree is full-grown, as it may be grown again."""
        self._noted.append((status, error, count))
        self.failure = self.failure or error
        if is_lost(error):
            self.lost = self.lost or error
        if status is Status.BRANCHING_FAULT and isinstance(error, ConfigError):
            self.mistake = self.mistake or error

    def report(self) -> None:
        """Reports and counts the failures of its trajectories; if it will be grown again, only that."""
        if self.lost is not None and not self.run.last:
            self.run.failures.note("tree grown again", self.lost)
            return
        for status, error, count in self._noted:
            self.run.failures.note(status, error, count)

    def give_up(self, status: Status, error: Exception) -> None:
        """Adds a failed leaf for every trajectory that was still to come."""
        count = self.left
        origin: Origin = "backfill" if self.tree.roots() else "root"
        self.note(status, error, count)
        self._allotted += count
        for _ in range(count):
            self.add_failed(self.next_key(0), 0, len(self.tree.nodes[0].tokens), origin, status, error)
        self._tell()
