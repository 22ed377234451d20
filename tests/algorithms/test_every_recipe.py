"""Every recipe grows trees with a scripted player, and trains a tiny model through the trainer."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import CountEnv, CountTool, Plan, grow, results
from small_recipes import SMALL, small

from algorithms import Algorithm, make, names
from algorithms.advantages import Scores
from algorithms.advantages.paths import column
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.policies.local import LocalPolicy
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import TextRenderer
from algorithms.rollout.run import Limits, Start
from algorithms.trainer import Trainer
from algorithms.tree import RolloutTree, Status

pytestmark = pytest.mark.numeric

EVERY = pytest.mark.parametrize("case", SMALL)


def test_none_is_forgotten() -> None:
    assert {case.partition(",")[0] for case in SMALL} == set(names())


def player(before: str, seed: int) -> str:
    """Calls up to three times, then answers; how often and what depends on the seed."""
    if results(before) < 1 + seed % 3:
        return f"<think>{seed % 10**6:06}</think><count>{seed % 1000:03}</count>"
    return f"<answer>{seed % 2}</answer>"


@pytest.mark.parametrize("mode", ["deterministic", "free"])
@EVERY
def test_it_collects(case: str, mode: str) -> None:
    algorithm, tool = small(case), CountTool()
    trees = grow(tool, Plan(algorithm.branching, algorithm.rollouts), player, prompts=2, mode=mode)
    assert [len(tree.leaves()) for tree in trees] == [algorithm.rollouts] * 2
    assert tool.opened == tool.closed
    assert sum(tree.tool_calls().executed for tree in trees) == len(tool.journal), "nothing ran twice"


@EVERY
def test_its_credit_fits_the_trees_it_grows(case: str) -> None:
    algorithm = small(case)
    trees = grow(plan=Plan(algorithm.branching, algorithm.rollouts), script=player, prompts=2)
    credit = algorithm.credit(trees, told(trees))
    for tree, advantages, weights in zip(trees, credit.advantages, credit.weights, strict=True):
        lengths = [len(tree.tokens(leaf)) for leaf in tree.leaves()]
        assert [len(row) for row in advantages] == [len(row) for row in weights] == lengths
        assert all(np.isfinite(row).all() for row in advantages)
    taught = [(a * w).any() for rows in zip(credit.advantages, credit.weights, strict=True) for a, w in zip(*rows, strict=True)]
    assert any(taught)
    assert (credit.returns is not None) == ("values" in algorithm.needs)


@EVERY
def test_where_an_observation_does_not_fit_nothing_grows(case: str) -> None:
    algorithm = small(case)
    tight = ScriptedPolicy(player, context_length=145)
    trees = grow(plan=Plan(algorithm.branching, algorithm.rollouts), script=tight, prompts=3, answer_reserve=8)
    nodes = [node for tree in trees for node in tree.nodes]
    assert {node.status for node in nodes} <= {None, Status.ANSWERED, Status.CONTEXT_FULL}, "no place to grow was missing"
    assert all(node.text.endswith("</result>") for node in nodes if node.kind == "observation")
    unanswered = [
        n for tree in trees for n in tree.nodes if n.status == Status.CONTEXT_FULL and tree.nodes[n.parent].kind == "action"
    ]
    assert unanswered, "some observations did not fit"
    assert all((node.tokens, node.reward) == ((), -1.0) for node in unanswered)
    credit = algorithm.credit(trees, told(trees))
    for tree, advantages in zip(trees, credit.advantages, strict=True):
        assert [len(row) for row in advantages] == [len(tree.tokens(leaf)) for leaf in tree.leaves()]


def told(trees: list[RolloutTree]) -> Scores:
    """What a learner might say: a reference that agrees with the sampler, and a value head that expects a half."""
    paths = [[column(tree, leaf, "logprobs") for leaf in tree.leaves()] for tree in trees]
    values = tuple(tuple(np.full(len(row), 0.5) for row in rows) for rows in paths)
    return Scores(reference=tuple(map(tuple, paths)), values=values)


class Lenient(CountEnv):
    """Takes whatever a model writes for a call, and after two of them for an answer: right if it has few letters."""

    def step(self, action: str) -> Any:
        letters = sum(character.isalpha() for character in action)
        return super().step(f"<answer>{int(letters < 3)}</answer>" if self._turn == 2 else f"<count>{letters}</count>")


def trainer(algorithm: Algorithm) -> Trainer:
    tokenizer, model = byte_tokenizer(), tiny_model(vocabulary=265, num_hidden_layers=1)
    needs = {need: need in algorithm.needs for need in ("reference", "values")}
    return Trainer(
        make_env=lambda: Lenient(CountTool()),
        starts=lambda step, refill: [Start(100 * refill + 10 * step + i) for i in range(2)],
        policy=LocalPolicy(model, tokenizer, slots=32),
        renderer=TextRenderer(tokenizer, with_instructions=False),
        algorithm=algorithm,
        learner=TorchLearner(model, LearnerConfig(learning_rate=1e-3), **needs),
        seed=3,
        limits=Limits(action_tokens=6, answer_reserve=8),
    )


def test_groups_without_differences_are_skipped_and_counted() -> None:
    class Generous(Lenient):
        def step(self, action: str) -> Any:
            return super().step("answer")

    async def one_step(algorithm: Algorithm) -> dict[str, float]:
        some = replace(trainer(algorithm), make_env=lambda: Generous(CountTool()))
        metrics = (await some.step(0)).metrics
        await some.policy.close()
        return metrics

    kept, skipped = (asyncio.run(one_step(make("grpo", rollouts=2, skip_equal=skip))) for skip in (False, True))
    assert kept["equal_reward_groups"] == skipped["equal_reward_groups"] == 1.0
    assert (kept["kept_prompts"], skipped["kept_prompts"]) == (2.0, 0.0)
    assert kept["trained_tokens"] > skipped["trained_tokens"] == 0.0


@pytest.mark.turns("case", always=7)
@EVERY
def test_it_trains_a_tiny_model(case: str) -> None:
    some = trainer(small(case))

    def weights() -> torch.Tensor:
        return torch.cat([value.detach().flatten().clone() for value in some.learner.weights().values()])

    async def two_steps() -> list[dict[str, float]]:
        done = [(await some.step(step)).metrics for step in range(2)]
        await some.policy.close()
        return done

    before = weights()
    metrics = asyncio.run(two_steps())
    after = weights()
    assert all(np.isfinite(value) for step in metrics for value in step.values())
    assert any(step["gradient_norm"] > 0 for step in metrics)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
