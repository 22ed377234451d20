"""Recipes train the solver of a game for two, whose reader belongs to its environment, from two seconds of imitation."""

import asyncio
import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_recipes import SMALL, small

from algorithms import Algorithm
from algorithms.cli.environments import env_maker
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.models.embedded.cold_start import ColdStartConfig, build, cold_start, silent
from algorithms.policies.local import LocalPolicy
from algorithms.rendering import TextRenderer
from algorithms.rollout.run import Limits, Start
from algorithms.trainer import Trainer
from arpo_envs.envs.deep_search_solver import DeepSearchSolverEnv
from arpo_envs.multi_agent.questions import ReadQuestions
from arpo_envs.tasks import Task
from arpo_envs.tasks.world import load_world

pytestmark = pytest.mark.numeric

OFTEN = ("arpo", "grpo", "ppo", "tree_rl")
CASES = [pytest.param(case, marks=pytest.mark.slow if case in OFTEN else pytest.mark.thorough) for case in SMALL]
SMALLEST: dict[str, Any] = {"cities_per_country": 3, "hops": 1}


class Generous:
    """The questions of the environment, to which every other name is a right answer: the untrained are right now and then."""

    name = "generous"

    def __init__(self) -> None:
        self.asked = ReadQuestions(hops=1, world=load_world(SMALLEST["cities_per_country"]))
        self.right = tuple(self.asked.lexicon())[::2]

    def draw(self, rng: np.random.Generator) -> Task:
        return replace(self.asked.draw(rng), answers=self.right)

    def get(self, task_id: str) -> Task:
        return replace(self.asked.get(task_id), answers=self.right)

    def __deepcopy__(self, memo: Any) -> "Generous":
        return self


@pytest.fixture(scope="module")
def imitator() -> tuple[Any, Any]:
    """A model and its tokenizer: it writes actions of a solver, often wrong ones, and knows nothing."""
    phases = {"echo_steps": 0, "drill_steps": 0, "imitation_steps": 25, "imitation_rate": 1e-2}
    size = ColdStartConfig(hidden=32, layers=1, heads=2, batch=16, lessons=60, **phases)
    make_env = env_maker("ARPO/DeepSearchSolver-v0", SMALLEST)
    model, tokenizer = build(make_env, size, seed=0)
    cold_start(make_env, model, tokenizer, TextRenderer(tokenizer, with_instructions=False), size, seed=0, report=silent)
    return model, tokenizer


def trainer(algorithm: Algorithm, model: Any, tokenizer: Any) -> Trainer:
    tasks = Generous()
    needs = {need: need in algorithm.needs for need in ("reference", "values")}
    return Trainer(
        make_env=lambda: DeepSearchSolverEnv(tasks=tasks, cities_per_country=SMALLEST["cities_per_country"]),
        starts=lambda step, refill: [Start(100 * refill + 10 * step + number) for number in range(6)],
        policy=LocalPolicy(model, tokenizer, slots=32),
        renderer=TextRenderer(tokenizer, with_instructions=False),
        algorithm=algorithm,
        learner=TorchLearner(model, LearnerConfig(learning_rate=1e-3), **needs),
        seed=3,
        limits=Limits(action_tokens=40, answer_reserve=8),
    )


@pytest.mark.parametrize("case", CASES)
def test_a_solver_takes_two_steps(case: str, imitator: tuple[Any, Any]) -> None:
    some = trainer(small(case), copy.deepcopy(imitator[0]), imitator[1])

    def weights() -> torch.Tensor:
        return torch.cat([value.detach().flatten().clone() for value in some.learner.weights().values()])

    async def two_steps() -> list[Any]:
        done = [await some.step(step) for step in range(2)]
        await some.policy.close()
        return done

    before = weights()
    steps = asyncio.run(two_steps())
    nodes = [node for step in steps for tree in step.trees for node in tree.nodes]
    read = [node for node in nodes if node.kind == "action" and node.text.startswith("<read>")]
    assert read, "somebody was asked about a page"
    assert {node.agent for node in nodes} == {"solver"}, "a tree is one agent's; the reader's words are observations"
    assert all(np.isfinite(value) for step in steps for value in step.metrics.values())
    assert any(step.metrics["gradient_norm"] > 0 for step in steps)
    assert torch.isfinite(weights()).all()
    assert not torch.equal(before, weights())
