"""The loop: collect, judge, score, credit, update, load; one line each."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

    Raises:
        ConfigError: the renderer's chat template rewrites earlier turns.
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

    def __post_init__(self) -> None:
        """Refuses a renderer with which a policy may be evaluated, but not trained."""
        if rewrites := REWRITES.of(self.renderer):
            raise ConfigError(f"The renderer's chat template rewrites earlier turns, so it can only evaluate: {rewrites[0]}.")

    async def step(self, step: int) -> StepResult:
        """Takes one step: learns, then loads the new weights into the policy; see `learn`."""
        result = await self.learn(step)
        began = time.perf_counter()
        await self.load(step + 1)
        seconds = result.metrics["update_seconds"] + time.perf_counter() - began
        return replace(result, metrics=result.metrics | {"update_seconds": seconds})

    async def load(self, version: int) -> None:
        """Gives the policy the learner's weights."""
        await self.policy.load(self.learner.weights(), version)

    async def learn(self, step: int) -> StepResult:
        """Rolls out and updates the learner; everything in it is a function of (seed, step, weights, memory).

        Paths that fail are left out. If all of them fail, nothing is learned, and the result says why: the run continues.

        Raises:
            ConfigError: environment, renderer and algorithm do not fit together, whatever the task.
            Diverged: see `Learner.update`.
        """
        began = time.perf_counter()
        algorithm = self.algorithm
        grown, trees, error, costs = await self._collected(step)
        collected = time.perf_counter()
        if self.shuffled_rewards:
            trees = shuffle_rewards(trees, seeds.generator(self.seed, step, "shuffle"))
        await SLEEP.of(self.policy)()  # an engine on the learner's GPU makes room; `load` wakes it
        scores = self.learner.score(trees, algorithm.needs)
        credit = algorithm.credit(trees, scores)
        learned = self.learner.update(trees, credit, scores, algorithm.loss, algorithm.aggregation)
        self.adaptation.remember(algorithm.branching, grown, self.policy.vocabulary_size)
        ended = time.perf_counter()
        metrics = summarise(grown) | summarise_forks(grown) | summarise_envs(grown) | failed_by_status(grown) | dict(learned)
        metrics |= summarise_costs(grown)
        metrics |= {
            "kept_prompts": float(len(trees)),
            "lost_steps": float(all_failed(grown)),
            "rollout_seconds": collected - began,
            "clone_seconds_per_prompt": costs.pop("clone_seconds") / max(1, len(grown)),
            "update_seconds": ended - collected,
            "tokens_per_second": metrics["sampled_tokens"] / max(1e-9, collected - began),
        }
        return StepResult(grown, metrics | costs, error)

    async def _collected(self, step: int) -> tuple[list[RolloutTree], list[RolloutTree], Exception | None, dict[str, float]]:
        """Returns all trees of a step, those to train on (at most as many as it has episodes), what went wrong, what it cost.

        Where `keep` drops some, fresh episodes are collected in their place, up to `refills` times. Those may fail; what
        was kept before is still used.
        """
        algorithm = self.algorithm
        growing = replace(algorithm, branching=self.adaptation.adapted(algorithm.branching, algorithm.rollouts))
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
        return grown, kept, error, costs
