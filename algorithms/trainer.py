"""The loop: collect, judge, score, credit, update, load; one line each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arpo_envs import ConfigError

from . import seeds
from .algorithm import Algorithm
from .controls import shuffle_rewards
from .learner import Learner
from .limits import Limits, MakeEnv, Start
from .metrics import summarise
from .policies import Policy
from .rendering import Renderer
from .rollout import collect
from .tree import RolloutTree

Starts = Callable[[int], Sequence[Start]]
"""(step) -> the episodes of that step."""


@dataclass(frozen=True)
class StepResult:
    """One step's trees and flat metrics."""

    trees: list[RolloutTree]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Trainer:
    """Trains a policy on an environment with an algorithm; the four know nothing of each other.

    Args:
        make_env: returns a fresh environment.
        starts: gives each step its episodes.
        policy: draws the actions; reloaded after every update.
        renderer: speaks the environment's dialect and the policy's tokens.
        algorithm: where trees grow, how credit flows, what is minimised.
        learner: holds the weights.
        seed: of the run.
        limits: of the rollouts.
        shuffled_rewards: the control in which rewards say nothing; see `controls.shuffle_rewards`.

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

    def __post_init__(self) -> None:
        """Refuses what may be evaluated, but not trained."""
        if rewrites := getattr(self.renderer, "rewrites", ()):
            raise ConfigError(f"The renderer's chat template rewrites earlier turns, so it may only evaluate: {rewrites[0]}.")

    async def step(self, step: int) -> StepResult:
        """Takes one step; everything in it is a function of (seed, step, weights)."""
        began = time.perf_counter()
        algorithm = self.algorithm
        grown = await collect(
            self.make_env,
            self.starts(step),
            self.policy,
            self.renderer,
            algorithm,
            seed=self.seed,
            step=step,
            limits=self.limits,
        )
        collected = time.perf_counter()
        trees = [tree for tree in grown if algorithm.keep is None or algorithm.keep(tree)]
        if self.shuffled_rewards:
            trees = shuffle_rewards(trees, seeds.generator(self.seed, step, "shuffle"))
        if (sleep := getattr(self.policy, "sleep", None)) is not None:
            await sleep()  # an engine on the learner's GPU makes room; `load` wakes it
        scores = self.learner.score(trees, algorithm.needs)
        credit = algorithm.advantages(trees, scores)
        learned = self.learner.update(trees, credit, scores, algorithm.loss, algorithm.aggregation)
        await self.policy.load(self.learner.weights(), step + 1)
        ended = time.perf_counter()
        metrics = summarise(grown) | dict(learned)
        metrics |= {
            "kept_prompts": float(len(trees)),
            "rollout_seconds": collected - began,
            "update_seconds": ended - collected,
            "tokens_per_second": metrics["sampled_tokens"] / max(1e-9, collected - began),
        }
        return StepResult(grown, metrics)
