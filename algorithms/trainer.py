"""The loop: collect, judge, score, credit, update, load; one line each."""

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from arpo_envs import ConfigError

from . import seeds
from .advantages import Credit, Scores
from .algorithm import Aggregation, Algorithm
from .branching.adaptation import Adaptation
from .losses import Loss
from .metrics import failed_by_status, summarise, summarise_costs, summarise_envs, summarise_forks
from .policies import SLEEP, Policy
from .rendering.renderer import REWRITES, Renderer
from .rewards import shuffle_rewards
from .rollout import Collector, Failures, Limits, MakeEnv, Start, all_failed, try_collect
from .tree import RolloutTree

Starts = Callable[[int, int], Sequence[Start]]
"""(step, refill) -> the episodes of that step; refill 0 is the first batch, later ones replace what was dropped."""


class Learner(Protocol):
    """What the trainer needs from a learner."""

    def score(self, trees: Sequence[RolloutTree], needs: frozenset[str]) -> Scores:
        """Returns what the estimators and the loss need besides behaviour log-probabilities."""
        ...

    def update(
        self, trees: Sequence[RolloutTree], credit: Credit, scores: Scores, loss: Loss, aggregation: Aggregation
    ) -> Mapping[str, float]:
        """Takes one optimizer step and returns metrics."""
        ...

    def weights(self) -> Mapping[str, Any]:
        """Returns the weights for the policy, each of them whole when it is asked for; see `learner.WeightSource`."""
        ...

    def save(self, folder: Path) -> None:
        """Writes everything needed to continue exactly, besides the weights."""
        ...

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""
        ...


@dataclass(frozen=True)
class StepResult:
    """The outcome of one step.

    Args:
        trees: all that were grown, including those that failed and those that were not trained on.
        metrics: flat.
        error: what made the whole step fail, see `rollout.Collected`; None if something could be learned.
    """

    trees: list[RolloutTree]
    metrics: dict[str, float]
    error: Exception | None = None


@dataclass(frozen=True)
class Batch:
    """What a step learns from.

    Args:
        grown: all trees.
        kept: those to train on, at most as many as the step has episodes.
        error: see `StepResult`.
        costs: what collecting them took, by name.
        seconds: the same, in time.
    """

    grown: list[RolloutTree]
    kept: list[RolloutTree]
    error: Exception | None
    costs: Mapping[str, float]
    seconds: float


class Overlap(Protocol):
    """Collects a step's trees while the learner updates on those of the step before; see `cluster.Ahead`."""

    weights: dict[int, Mapping[str, Any]]
    is_updating: bool

    def require(self, algorithm: Algorithm) -> None:
        """Refuses an algorithm that cannot learn from trees of older weights."""
        ...

    async def alongside(
        self, update: Callable[[], Mapping[str, float]], step: int, collect: Callable[[], Coroutine[Any, Any, Batch]]
    ) -> Mapping[str, float]:
        """Returns what an update returns; meanwhile, the trees of `step` are collected."""
        ...

    async def take(self, step: int) -> Batch | None:
        """Returns what was collected for a step, None if nothing was."""
        ...

    async def arrived(self) -> None:
        """Waits until nothing is collected any more."""
        ...

    def keep(self, version: int, weights: Mapping[str, Any]) -> None:
        """Keeps weights that the learner is about to change."""
        ...

    def forget_before(self, version: int) -> None:
        """Drops weights that no step needs any more."""
        ...

    def measured(self, trees: Sequence[RolloutTree], step: int) -> Mapping[str, float]:
        """Returns metrics of a step's trees."""
        ...

    async def close(self) -> None:
        """Breaks off what is being collected."""
        ...


@dataclass(frozen=True)
class Trainer:
    """Trains a policy on an environment with an algorithm; the four know nothing about each other.

    Args:
        make_env: returns a fresh environment.
        starts: gives each step its episodes.
        policy: draws the actions; reloaded after every update.
        renderer: speaks the environment's dialect and the policy's tokens.
        algorithm: where trees grow, how credit flows, what is minimised.
        learner: holds the weights.
        seed: of the run.
        limits: of the rollouts.
        shuffled_rewards: the control in which rewards tell nothing; see `rewards.shuffle_rewards`.
        failures: reports and counts what fails in rollouts.
        adaptation: what an adapting branching strategy remembers; a checkpoint must hold its `memory`.
        collect: grows the trees: in this process, or in others with the same result.
        ahead: collects each step while the learner updates on the step before, so with weights that are one version old; a
            checkpoint must hold its `weights` of that version. None: each step is collected with the newest weights.

    Raises:
        ConfigError: the renderer's chat template rewrites earlier turns, or the algorithm cannot learn from older weights.
    """

    make_env: MakeEnv
    starts: Starts
    policy: Policy
    renderer: Renderer
    algorithm: Algorithm
    learner: Learner
    seed: int
    limits: Limits = Limits()
    shuffled_rewards: bool = False
    failures: Failures = field(default_factory=Failures)
    adaptation: Adaptation = field(default_factory=Adaptation)
    collect: Collector = try_collect
    ahead: Overlap | None = None

    def __post_init__(self) -> None:
        """Refuses a renderer with which a policy may be evaluated, but not trained."""
        if rewrites := REWRITES.of(self.renderer):
            raise ConfigError(f"The renderer's chat template rewrites earlier turns, so it can only evaluate: {rewrites[0]}.")
        if self.ahead is not None:
            self.ahead.require(self.algorithm)

    async def step(self, step: int) -> StepResult:
        """Takes one step: learns, then loads the new weights into the policy; see `learn`."""
        result = await self.learn(step)
        began = time.perf_counter()
        await self.load(step + 1)
        seconds = result.metrics["update_seconds"] + time.perf_counter() - began
        return replace(result, metrics=result.metrics | {"update_seconds": seconds})

    async def load(self, version: int) -> None:
        """Gives the policy the learner's weights, as soon as nothing is collected with older ones any more."""
        if self.ahead is not None:
            await self.ahead.arrived()
        await self.policy.load(self.learner.weights(), version)

    async def close(self) -> None:
        """Breaks off what is collected ahead, and closes the policy."""
        if self.ahead is not None:
            await self.ahead.close()
        await self.policy.close()

    async def learn(self, step: int) -> StepResult:
        """Rolls out and updates the learner; everything in it is a function of (seed, step, weights, memory).

        With `ahead`, it is also one of the weights before these. Paths that fail are left out. If all of them fail, nothing is
        learned, and the result says why: the run continues.

        Raises:
            ConfigError: environment, renderer and algorithm do not fit together, whatever the task.
            Diverged: see `Learner.update`.
        """
        batch = await self._batch(step)
        began = time.perf_counter()
        grown, trees = batch.grown, batch.kept
        after = copy(self.adaptation)
        after.remember(self.algorithm.branching, grown, self.policy.vocabulary_size)
        if self.shuffled_rewards:
            trees = shuffle_rewards(trees, seeds.generator(self.seed, step, "shuffle"))
        if self.ahead is None:
            await SLEEP.of(self.policy)()  # an engine on the learner's GPU makes room; `load` wakes it
            learned = self._update(trees)
        else:
            self.ahead.keep(step, self.learner.weights())
            next_one = partial(self._collected, step + 1, after)
            learned = await self.ahead.alongside(partial(self._update, trees), step + 1, next_one)
            self.ahead.forget_before(step)
        self.adaptation.memory = after.memory
        ended = time.perf_counter()
        metrics = summarise(grown) | summarise_forks(grown) | summarise_envs(grown) | failed_by_status(grown) | dict(learned)
        metrics |= summarise_costs(grown) | dict(batch.costs)
        metrics |= {
            "kept_prompts": float(len(trees)),
            "lost_steps": float(all_failed(grown)),
            "rollout_seconds": batch.seconds,
            "clone_seconds_per_prompt": metrics.pop("clone_seconds") / max(1, len(grown)),
            "update_seconds": ended - began,
            "tokens_per_second": metrics["sampled_tokens"] / max(1e-9, batch.seconds),
        }
        if self.ahead is not None:
            metrics |= self.ahead.measured(grown, step)
        return StepResult(grown, metrics, batch.error)

    def _update(self, trees: list[RolloutTree]) -> Mapping[str, float]:
        algorithm = self.algorithm
        scores = self.learner.score(trees, algorithm.needs)
        return self.learner.update(trees, algorithm.credit(trees, scores), scores, algorithm.loss, algorithm.aggregation)

    @property
    def is_updating(self) -> bool:
        """Whether the learner is in the middle of an update, in another thread; see `ahead`."""
        return self.ahead is not None and self.ahead.is_updating

    async def _batch(self, step: int) -> Batch:
        """Returns the trees of a step: those collected ahead; the same again, in a run that is resumed; or new ones."""
        if self.ahead is None:
            return await self._collected(step, self.adaptation)
        if (batch := await self.ahead.take(step)) is not None:
            return batch
        if (older := self.ahead.weights.get(step - 1)) is None:
            return await self._collected(step, self.adaptation)
        await self.policy.load(older, step - 1)
        batch = await self._collected(step, self.adaptation)
        await self.policy.load(self.learner.weights(), step)
        return batch

    async def _collected(self, step: int, adaptation: Adaptation) -> Batch:
        """Collects the trees of a step.

        Where `keep` drops some, fresh episodes are collected in their place, up to `refills` times. Those may fail; what
        was kept before is still used.
        """
        began = time.perf_counter()
        algorithm = self.algorithm
        growing = replace(algorithm, branching=adaptation.adapted(algorithm.branching, algorithm.rollouts))
        grown: list[RolloutTree] = []
        kept: list[RolloutTree] = []
        wanted, error, costs = 0, None, {"clone_seconds": 0.0}
        for refill in range(1 + algorithm.refills):
            starts = self.starts(step, refill)
            wanted = wanted or len(starts)
            found = await self.collect(
                self.make_env,
                starts[: None if refill == 0 else wanted - len(kept)],
                self.policy,
                self.renderer,
                growing,
                seed=self.seed if refill == 0 else seeds.derive(self.seed, "refill", refill),
                step=step,
                limits=self.limits,
                failures=self.failures,
            )
            error = found.error if refill == 0 else error
            for name, cost in {"clone_seconds": found.clone_seconds, **found.counts}.items():
                costs[name] = costs.get(name, 0.0) + cost
            grown += found.trees
            kept += [tree for tree in found.trees if algorithm.keep is None or algorithm.keep(tree)]
            if len(kept) >= wanted:
                break
        return Batch(grown, kept, error, costs, time.perf_counter() - began)
