"""On packed trees every loss of the family has the gradient it has on flat rows, for every family of models."""

from typing import Any

import numpy as np
import pytest
import torch
from model_toys import tiny_model
from packing_toys import random_tree
from small_recipes import SMALL, small

from algorithms.advantages import Credit, sampled_weights
from algorithms.algorithm import Algorithm
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.tree import RolloutTree

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3"},
    # Three query heads to each of three key heads, tied embeddings, no bias, rope over a long range.
    "smollm2": {
        "family": "llama", "hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3,
        "tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
    },
}  # fmt: skip
TREES = [random_tree(seed, nodes=26, depth=6) for seed in (11, 12, 17)]
BOUND = 1e-5


def random_credit(trees: list[RolloutTree]) -> Credit:
    """Another advantage, weight and return for every token of every path."""
    rng = np.random.default_rng(0)

    def drawn(scale: float) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(rng.normal(0.0, scale, len(tree.tokens(leaf))) for leaf in tree.leaves()) for tree in trees)

    weights = tuple(
        tuple(weight * rng.uniform(0.5, 1.5, len(weight)) for weight in sampled_weights(tree)) for tree in trees
    )  # fmt: skip
    return Credit(drawn(1.0), weights, drawn(0.5))


def gradients(algorithm: Algorithm, family: str, packing: Any) -> tuple[dict[str, torch.Tensor], float]:
    """Returns the gradient of each parameter, and the sharing ratio."""
    learner = TorchLearner(
        tiny_model(vocabulary=64, **FAMILIES[family]),
        LearnerConfig(gradient_clip=1e9, packing=packing, entropy_bonus=0.01),
        reference="reference" in algorithm.needs,
        values="values" in algorithm.needs,
    )
    noise = torch.Generator().manual_seed(1)
    moved = [*(learner.reference.parameters() if learner.reference is not None else ())]
    moved += learner.value_head.parameters() if learner.value_head is not None else ()
    with torch.no_grad():
        for parameter in moved:  # or the penalty, and what the head says, would be 0
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
    scores = learner.score(TREES, algorithm.needs)
    credit = random_credit(TREES)
    if "values" not in algorithm.needs:
        credit = Credit(credit.advantages, credit.weights)
    metrics = learner.update(TREES, credit, scores, algorithm.loss, algorithm.aggregation)
    named = [*learner.model.named_parameters()]
    named += learner.value_head.named_parameters() if learner.value_head is not None else []
    return {name: parameter.grad for name, parameter in named if parameter.grad is not None}, metrics["sharing_ratio"]


def test_the_trees_are_deep_and_share() -> None:
    assert max(len(node.key) for tree in TREES for node in tree.nodes) >= 6
    assert sum(len(tree.leaves()) for tree in TREES) >= 20


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=pytest.mark.slow if family.startswith("qwen") else []) for family in FAMILIES]
)
@pytest.mark.parametrize("case", SMALL)
def test_the_gradient_on_trees_is_that_on_flat_rows(case: str, family: str) -> None:
    algorithm = small(case)
    flat, _ = gradients(algorithm, family, "flat")
    tree, sharing = gradients(algorithm, family, "auto")
    assert sharing > 1.5
    assert flat.keys() == tree.keys()
    worst = {name: float((flat[name] - tree[name]).abs().max() / flat[name].abs().max().clamp(min=1e-12)) for name in flat}
    assert max(worst.values()) <= BOUND, max(worst.items(), key=lambda item: item[1])
