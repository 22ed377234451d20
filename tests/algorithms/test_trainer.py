"""The trainer: what the sampler wrote is what the learner computes, and the same seed repeats everything."""

import asyncio
import random
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import CountEnv, CountTool
from rounding import ROOM, rounding, toy_nats

from algorithms import make
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.models.logits import Logits
from algorithms.policies.local import LocalPolicy
from algorithms.rendering import TextRenderer
from algorithms.rollout.run import Limits, Start
from algorithms.trainer import Trainer
from algorithms.tree import RolloutTree

pytestmark = pytest.mark.numeric


class Lenient(CountEnv):
    """Takes whatever a model writes for a call, and at last for an answer worth its number of letters."""

    def step(self, action: str) -> Any:
        letters = sum(character.isalpha() for character in action)
        return super().step(f"<answer>{letters}</answer>" if self._turn == 3 else f"<count>{letters}</count>")


def parameters(some: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in some.learner.model.parameters()])  # type: ignore[attr-defined]


def trainer(seed: int, algorithm: Any, temperature: float = 1.0, **options: Any) -> Trainer:
    tokenizer = byte_tokenizer()
    model = tiny_model(vocabulary=265, **options)
    config = LearnerConfig(learning_rate=1e-3)
    return Trainer(
        make_env=lambda: Lenient(CountTool(hook=lambda history: time.sleep(random.random() * 0.003))),
        starts=lambda step, refill: [Start(10 * step + i + 1000 * refill) for i in range(2)],
        policy=LocalPolicy(model, tokenizer, slots=32),
        renderer=TextRenderer(tokenizer, with_instructions=False),
        algorithm=algorithm,
        learner=TorchLearner(
            model, config, temperature=temperature, reference="reference" in algorithm.needs, values="values" in algorithm.needs
        ),
        seed=seed,
        limits=Limits(action_tokens=12, temperature=temperature, answer_reserve=8),
    )


def run(some: Trainer, steps: int) -> tuple[list[str], list[dict[str, float]]]:
    async def all_steps() -> tuple[list[str], list[dict[str, float]]]:
        results = [await some.step(step) for step in range(steps)]
        await some.policy.close()
        return [tree.to_json() for result in results for tree in result.trees], [result.metrics for result in results]

    return asyncio.run(all_steps())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_stored_logprobs_are_the_learners(temperature: float, family: str, dtype: torch.dtype) -> None:
    """With dropout in the model's configuration, too."""
    some = trainer(1, make("grpo", rollouts=4), temperature, family=family, dtype=dtype)
    initial = TorchLearner(tiny_model(family, vocabulary=265, dtype=dtype), temperature=temperature)
    result = asyncio.run(some.step(0))
    compared = 0
    for tree in result.trees:
        for leaf in tree.leaves():
            ids = torch.tensor([tree.tokens(leaf)])
            logits = initial.model(input_ids=ids).logits[0, :-1] / temperature
            theirs = [0.0, *torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0].tolist()]
            nodes = [(tree.nodes[n], stop) for n, stop in tree.path(leaf)]
            sampled = [(s, p) for n, stop in nodes for s, p in zip(n.sampled[:stop], n.logprobs[:stop], strict=True)]
            for (drawn, mine), other in zip(sampled, theirs, strict=True):
                if drawn:
                    held = float(np.spacing(np.float32(abs(other)))) / 2  # what a tree rounds off: it has single precision
                    assert mine == pytest.approx(other, abs=toy_nats(family, dtype, temperature) + held)
                    compared += 1
    assert compared > 100


def test_the_same_seed_gives_the_same_trees_and_parameters_after_three_steps() -> None:
    def once(seed: int) -> tuple[list[str], torch.Tensor]:
        some = trainer(seed, make("arpo", rollouts=4, roots=2, probe=3, kl=0.01))
        trees, metrics = run(some, 3)
        assert all(m["gradient_norm"] > 0 for m in metrics)
        return trees, parameters(some)

    (trees, weights), (again, weights_again), (others, other_weights) = once(5), once(5), once(6)
    assert trees == again
    assert torch.equal(weights, weights_again)
    assert trees != others
    assert not torch.equal(weights, other_weights)


def test_a_cleverly_computed_logit_is_the_models_own() -> None:
    for family, options in (("llama", {}), ("gpt2", {}), ("cohere", {"logit_scale": 0.25})):
        model = tiny_model(family, **options)
        ids = torch.arange(20).view(2, 10)
        rows, columns = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 9])
        wanted = model(input_ids=ids).logits[rows, columns]
        rounded = rounding(lambda model, ids=ids: {"logits": model(input_ids=ids).logits}, model)["logits"]
        assert (Logits(model)((rows, columns), input_ids=ids) - wanted).abs().max() <= ROOM * rounded


def test_the_trainer_loads_what_was_learned_and_reports() -> None:
    some = trainer(5, make("grpo", rollouts=4))
    trees, metrics = run(some, 2)
    assert some.policy.version == 2
    versions = {n.policy_version for line in trees for n in RolloutTree.from_json(line).nodes if n.kind == "action"}
    assert versions == {0, 1}
    loaded = some.policy.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(loaded[name], value) for name, value in some.learner.weights().items())
    assert {"reward", "success", "kept_prompts", "tokens_per_second", "loss", "executed_tool_calls_per_prompt"} <= set(
        metrics[0]
    )


def test_trees_that_are_not_kept_are_shown_but_not_trained_on() -> None:
    some = trainer(5, replace(make("grpo", rollouts=4), keep=lambda tree: False))
    result = asyncio.run(some.step(0))
    assert len(result.trees) == 2
    assert (result.metrics["kept_prompts"], result.metrics["trained_tokens"]) == (0.0, 0.0)


def test_an_engine_that_can_sleep_does_so_while_the_learner_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    some = trainer(1, make("grpo", rollouts=4))
    order: list[str] = []

    async def sleep() -> None:
        order.append("sleep")

    update, load = some.learner.update, some.policy.load
    monkeypatch.setattr(some.policy, "sleep", sleep, raising=False)
    monkeypatch.setattr(some.learner, "update", lambda *given: order.append("update") or update(*given))
    monkeypatch.setattr(some.policy, "load", lambda *given: order.append("load") or load(*given))
    run(some, 2)
    assert order == ["sleep", "update", "load"] * 2


def test_dropped_trees_are_replaced_by_fresh_episodes_until_there_are_enough() -> None:
    def step(keep: Any, refills: int) -> tuple[list[Any], dict[str, float]]:
        algorithm = replace(make("grpo", rollouts=2), keep=keep, refills=refills)
        some = trainer(1, algorithm)
        result = asyncio.run(some.step(0))
        asyncio.run(some.policy.close())
        return [tree.meta["seed"] for tree in result.trees], result.metrics

    assert step(None, 0)[0] == [0, 1]
    seeds, metrics = step(lambda tree: tree.meta["seed"] not in (1, 1000), 3)
    assert seeds == [0, 1, 1000, 2000], "one is missing, so that one at a time is asked for"
    assert metrics["kept_prompts"] == 2
    seeds, metrics = step(lambda tree: False, 2)
    assert seeds == [0, 1, 1000, 1001, 2000, 2001]
    assert (metrics["kept_prompts"], metrics["gradient_norm"]) == (0, 0.0)
    first, again = (step(lambda tree: tree.meta["seed"] > 1, 1) for _ in range(2))
    assert first[0] == again[0] == [0, 1, 1000, 1001]
