"""Prompts go out to engines that have room, and come back as trees, whatever happens to the engines in between.

A rollout is a function of its prompt, the run's seed and the weights. So a prompt whose engine is lost is not repaired but
asked again, and gives the same tree.
"""

import asyncio
import pickle
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from arpo_envs import ConfigError

from ..policies import Policy
from ..rendering.renderer import Renderer
from ..rollout import GROWN_AGAIN, Collected, Failures, Limits, MakeEnv, Rollouts, Start, Trouble, never_grown, reason
from ..tree import RolloutTree, Status
from .engines import Engine, Standing, together
from .launcher import Lost
from .parcel import unpacked
from .policy import ClusterPolicy
from .worker import Gathered, Plan

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

    A prompt whose engine is lost is asked again, up to `Patience.attempts` times; after that it is a tree of failed leaves.
    With an engine whose draws do not depend on what is drawn beside them (`batch_invariant`), the trees are those of one
    process, bit for bit; with another one, up to rounding.

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
    batch = _Batch(policy, plan, tasks, first, step, algorithm.rollouts, failures or Failures())
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
    """The prompts of one call, by their positions: runs of them wait, are under way, or are done."""

    policy: ClusterPolicy
    plan: bytes
    tasks: Sequence[Start]
    first: int
    step: int
    rollouts: int
    failures: Failures
    done: dict[int, Collected] = field(default_factory=dict)
    retried: int = 0

    def __post_init__(self) -> None:
        self._version = self.policy.version  # of all of them, also of those that are asked again later
        self._waiting = deque([range(len(self.tasks))] if self.tasks else [])
        self._open = len(self.tasks)
        self._tries: Counter[int] = Counter()
        self._changed = asyncio.Event()
        self._fault: Exception = Lost("There is no engine.")

    async def serve(self, engine: Engine) -> None:
        """Gives an engine prompts whenever it has room, until all are done or it cannot be made anew any more."""
        engines = self.policy.fleet
        while self._open:
            # Before it takes prompts: the others work on these while it is started.
            if not engine.is_alive and (fault := await engines.revive(engine)) is not None:
                self._fault = fault
                return
            if (run := await self._take()) is None:
                return
            starts = self.tasks[run.start : run.stop]
            try:
                found = await engines.call(engine, "collect", self.plan, starts, self.first + run.start, self._version)
            except Lost as error:
                engines.listener.tell(f"engine {engine.number} was lost: {error}")
                await self._again(run, error)
            else:
                self._finish(run, self._unpacked(found))

    def collected(self) -> Collected:
        """Returns all trees in the order of their prompts; those that nobody could take any more have failed."""
        for run in self._waiting:
            self._give_up(run, self._fault)
        parts = [self.done[start] for start in sorted(self.done)]
        trees: list[RolloutTree] = [tree for part in parts for tree in part.trees]
        troubles: list[Trouble] = [trouble for part in parts for trouble in part.troubles]
        counts = {name: sum((part.counts[name] for part in parts), 0.0) for name in GROWN_AGAIN}
        return Collected(trees, troubles, sum(part.clone_seconds for part in parts), counts)

    async def _take(self) -> range | None:
        """Returns prompts to work on, fewer as fewer are left, so that engines finish together; None when all are done."""
        while self._open and not self._waiting:
            self._changed.clear()  # those under way may come back
            await self._changed.wait()
        if not self._open:
            return None
        run = self._waiting.popleft()
        size = max(1, (len(run) + sum(map(len, self._waiting))) // (2 * len(self.policy.fleet.all)))
        if size < len(run):
            self._waiting.appendleft(run[size:])
        self._show()
        return run[:size]

    def _put_back(self, runs: Sequence[range]) -> None:
        self._waiting.extend(runs)
        self._changed.set()

    def _finish(self, run: range, found: Collected) -> None:
        self.done[run.start] = found
        self._open -= len(run)
        self._changed.set()
        self._show()

    async def _again(self, run: range, error: Exception) -> None:
        """Puts prompts back one by one, as one of them may be what killed the engine; gives up those tried often enough."""
        self._tries.update(run)
        tries = max(self._tries[position] for position in run)
        await self.policy.fleet.pause(tries)
        for position in run:
            one = range(position, position + 1)
            if self._tries[position] < self.policy.fleet.patience.attempts:
                self.retried += 1
                self._put_back([one])
            else:
                self._give_up(one, Lost(f"An engine was lost each of {self._tries[position]} times: {error}"))

    def _give_up(self, run: range, error: Exception) -> None:
        starts = self.tasks[run.start : run.stop]
        self.failures.note(Status.POLICY_FAULT, error, len(starts) * self.rollouts)
        self._finish(run, never_grown(starts, self.rollouts, error, step=self.step))

    def _unpacked(self, found: Gathered) -> Collected:
        for what, error, count in found.noted:
            self.failures.note(what, error, count)
        return Collected(unpacked(found.trees), found.troubles, found.clone_seconds, found.counts)

    def _show(self) -> None:
        engines, waiting, done = self.policy.fleet, sum(map(len, self._waiting)), len(self.tasks) - self._open
        engines.listener.show(Standing(engines.alive, len(engines.all), done, self._open - waiting, waiting, self.retried))
