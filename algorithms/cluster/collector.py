"""Prompts go out to engines that have room, and come back as trees, whatever happens to the engines in between.

A rollout is a function of its prompt, the run's seed and the weights. So a prompt whose engine is lost is not repaired but
asked again, and gives the same tree.
"""

import asyncio
import pickle
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from arpo_envs import ConfigError

from ..policies import Policy
from ..rendering.renderer import Renderer
from ..rollout import GROWN_AGAIN, Collected, Failures, Limits, MakeEnv, Rollouts, Start, Trouble, never_grown, reason
from ..tree import RolloutTree, Status
from .engines import Engine, Standing, together
from .growing import Gathered, Plan
from .launcher import Lost
from .parcel import unpacked
from .policy import ClusterPolicy

COUNTS = ("engines_lost", "prompts_retried")
"""What is recorded of a batch beside its trees, and beside what is recorded of one in this process."""


async def collect_elsewhere(
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
) -> Collected:
    """Grows trees as `rollout.try_collect` does, in the engines' processes.

    A prompt whose engine is lost is asked again, up to `Patience.attempts` times, the last time alone: each that an engine had
    under way may be what it was lost of. After that it is a tree of failed leaves. With an engine whose draws do not depend on
    what is drawn beside them (`batch_invariant`), the trees are those of one process, bit for bit; with another one, up to
    rounding.

    Args:
        make_env: can be pickled, like the algorithm's branching strategy.
        tasks: see `rollout.collect`, as for the rest.
        policy: the engines' stand-in.
        renderer: the engines have their own, made from the same description.
        algorithm: gives the number of leaves per tree and where they branch off.
        seed: of the run.
        step: of the run.
        first: position of the first task, where a batch is collected in parts.
        limits: see `Limits`.
        failures: reports and counts what fails.

    Raises:
        ConfigError: the parts do not fit together, or cannot be sent.
    """
    if not isinstance(policy, ClusterPolicy):
        raise ConfigError(f"Rollouts elsewhere need a ClusterPolicy, which knows the engines, got {policy!r}.")
    plan = _pickled(Plan(make_env, algorithm.branching, algorithm.rollouts, seed, step, limits))
    lost = policy.fleet.lost
    batch = _Batch(policy, plan, dict(enumerate(tasks, first)), step, algorithm.rollouts, failures or Failures())
    await together(batch.serve(engine) for engine in policy.fleet.all)
    found = batch.collected()
    own = zip(COUNTS, (float(policy.fleet.lost - lost), float(batch.retried)), strict=True)
    return replace(found, counts={**found.counts, **dict(own)})


def _pickled(plan: Plan) -> bytes:
    try:
        return pickle.dumps(plan)
    except Exception as error:  # an environment or a strategy of another package may refuse in any way
        raise ConfigError(
            f"{plan.make_env} or {plan.branching} cannot be sent to another process: {reason(error)}. Define what makes the "
            "environment, and the strategy's class, at the top of a module."
        ) from error


@dataclass
class _Batch:
    """The prompts of one call, by their positions: they wait, are under way with an engine, or are done."""

    policy: ClusterPolicy
    plan: bytes
    tasks: Mapping[int, Start]
    step: int
    rollouts: int
    failures: Failures
    retried: int = 0

    def __post_init__(self) -> None:
        self._version = self.policy.version  # of all of them, also of those that are asked again later
        self._waiting = deque(self.tasks)
        self._suspects: deque[int] = deque()
        """Those of which each may be what has cost all its engines: the last attempt is made by each alone."""
        self._under_way: dict[Engine, set[int]] = {engine: set() for engine in self.policy.fleet.all}
        self._done: dict[int, tuple[RolloutTree, Trouble]] = {}
        self._clone_seconds, self._counts = 0.0, Counter[str]()
        self._tries: Counter[int] = Counter()
        self._changed = asyncio.Event()
        self._fault: Exception = Lost("There is no engine.")

    async def serve(self, engine: Engine) -> None:
        """Gives an engine prompts as its trees end, until all are done or it cannot be made anew any more."""
        engines, idle_losses = self.policy.fleet, 0
        while self._open:
            # Before it takes prompts: the others work on these while it is started.
            if not engine.is_alive and (fault := await engines.revive(engine)) is not None:
                self._fault = fault
                return
            try:
                await self._use(engine)
            except Lost as error:
                engines.listener.tell(f"engine {engine.number} was lost: {error}")
                if self._under_way[engine]:
                    await self._again(engine, error)
                elif (idle_losses := idle_losses + 1) == engines.patience.attempts:
                    self._fault = error
                    return

    def collected(self) -> Collected:
        """Returns all trees in the order of their prompts; those that nobody could take any more have failed."""
        for position in (*self._waiting, *self._suspects):
            self._give_up(position, self._fault)
        self._waiting.clear()
        self._suspects.clear()
        self._show()
        done = [self._done[position] for position in self.tasks]
        counts = {name: float(self._counts[name]) for name in GROWN_AGAIN}
        return Collected([tree for tree, _ in done], [trouble for _, trouble in done], self._clone_seconds, counts)

    @property
    def _open(self) -> int:
        """How many prompts are not done."""
        return len(self.tasks) - len(self._done)

    async def _use(self, engine: Engine) -> None:
        call, own = partial(self.policy.fleet.call, engine), self._under_way[engine]
        while self._open:
            room: int = await call("begin", self.plan, self._version)  # before it takes prompts: it may have died while idle
            while (new := self._take(own, room)) or own:
                self._finish(own, await call("grow", {position: self.tasks[position] for position in new}))
            while self._open and not (self._waiting or self._suspects):
                self._changed.clear()  # those under way elsewhere may come back
                await self._changed.wait()

    def _take(self, own: set[int], room: int) -> list[int]:
        """Returns prompts to begin, perhaps none.

        Args:
            own: those that the engine has under way; the new ones are added.
            room: how many there should be.
        """
        new = self._next(own, room)
        own.update(new)
        self._show()
        return new

    def _next(self, own: Collection[int], room: int) -> list[int]:
        """Returns no more prompts than there is room for, nor than an equal share, so that engines finish together."""
        if any(map(self._is_last_attempt, own)):
            return []
        share = -(-self._open // max(1, sum(engine.is_ready for engine in self.policy.fleet.all)))
        count = min(min(room, share) - len(own), len(self._waiting))
        if count <= 0 and not own and self._suspects:
            return [self._suspects.popleft()]
        return [self._waiting.popleft() for _ in range(count)]

    def _finish(self, own: set[int], found: Gathered) -> None:
        for what, error, count in found.noted:
            self.failures.note(what, error, count)
        self._clone_seconds += found.clone_seconds
        self._counts.update(found.counts)
        for position, tree, trouble in zip(found.positions, unpacked(found.trees), found.troubles, strict=True):
            own.discard(position)
            self._done[position] = tree, trouble
        self._tell()

    async def _again(self, engine: Engine, error: Exception) -> None:
        """Puts back what an engine had under way that was lost; gives up what was tried often enough."""
        lost = sorted(self._under_way[engine])
        self._tries.update(lost)
        await self.policy.fleet.pause(max(self._tries[position] for position in lost))
        self._under_way[engine].clear()
        for position in lost:
            if self._tries[position] == self.policy.fleet.patience.attempts:
                self._give_up(position, Lost(f"An engine was lost each of {self._tries[position]} times: {error}"))
                continue
            self.retried += 1
            (self._suspects if self._is_last_attempt(position) else self._waiting).append(position)
        self._tell()

    def _is_last_attempt(self, position: int) -> bool:
        return 0 < self._tries[position] == self.policy.fleet.patience.attempts - 1

    def _give_up(self, position: int, error: Exception) -> None:
        self.failures.note(Status.POLICY_FAULT, error, self.rollouts)
        found = never_grown([self.tasks[position]], self.rollouts, error, step=self.step)
        self._done[position] = found.trees[0], found.troubles[0]

    def _tell(self) -> None:
        self._changed.set()
        self._show()

    def _show(self) -> None:
        engines, waiting = self.policy.fleet, len(self._waiting) + len(self._suspects)
        under_way = sum(map(len, self._under_way.values()))
        engines.listener.show(Standing(engines.alive, len(engines.all), len(self._done), under_way, waiting, self.retried))
