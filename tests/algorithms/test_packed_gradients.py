"""On packed trees every loss of the family has the gradient it has on flat rows, for every family of models.

Ratios are to the log-probabilities in the trees, which are not the model's, so that every clip has something to do.
"""

from collections.abc import Mapping
from dataclasses import replace
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
from algorithms.losses.clip import ClipLoss
from algorithms.mismatch import TruncatedImportanceSampling
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


def gradients(
    algorithm: Algorithm, family: str, packing: Any, correction: TruncatedImportanceSampling | None = None
) -> tuple[dict[str, torch.Tensor], Mapping[str, float]]:
    """Returns the gradient of each parameter, and the metrics."""
    learner = TorchLearner(
        tiny_model(vocabulary=64, **FAMILIES[family]),
        LearnerConfig(gradient_clip=1e9, packing=packing, entropy_bonus=0.01, correction=correction),
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
    return {name: parameter.grad for name, parameter in named if parameter.grad is not None}, metrics


def worst_difference(flat: dict[str, torch.Tensor], tree: dict[str, torch.Tensor]) -> tuple[str, float]:
    """max |difference| / max |gradient|, of the worst parameter, and its name."""
    assert flat.keys() == tree.keys()
    worst = {name: float((flat[name] - tree[name]).abs().max() / flat[name].abs().max().clamp(min=1e-12)) for name in flat}
    return max(worst.items(), key=lambda item: item[1])


def test_the_trees_are_deep_and_share() -> None:
    assert max(len(node.key) for tree in TREES for node in tree.nodes) >= 6
    assert sum(len(tree.leaves()) for tree in TREES) >= 20


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=pytest.mark.slow if family.startswith("qwen") else []) for family in FAMILIES]
)
@pytest.mark.parametrize("case", SMALL)
def test_the_gradient_on_trees_is_that_on_flat_rows(case: str, family: str) -> None:
    algorithm = small(case)
    flat, of_flat = gradients(algorithm, family, "flat")
    tree, of_tree = gradients(algorithm, family, "auto")
    assert of_tree["sharing_ratio"] > 1.5
    assert of_flat["sharing_ratio"] == 1.0
    assert abs(of_tree["policy_kl"]) > 1e-3
    assert of_tree["policy_kl"] == pytest.approx(of_flat["policy_kl"], rel=1e-4)
    if "clipped" in of_tree:
        assert 0.0 < of_tree["clipped"] == pytest.approx(of_flat["clipped"], rel=1e-4)
    worst = worst_difference(flat, tree)
    assert worst[1] <= BOUND, worst


@pytest.mark.parametrize("case", ["arpo, reference", "tree_po"])
def test_the_dual_clip_is_at_work(case: str) -> None:
    algorithm = small(case)
    assert isinstance(algorithm.loss, ClipLoss)
    without = replace(algorithm, loss=replace(algorithm.loss, dual=None))
    clipped = [gradients(one, "llama", "auto")[1]["clipped"] for one in (algorithm, without)]
    assert clipped[0] > clipped[1]


def test_with_the_correction_of_the_sampler() -> None:
    """The ratio is then to the learner's own log-probabilities, and the advantages are weighted."""
    flat, of_flat = gradients(small("arpo"), "llama", "flat", TruncatedImportanceSampling())
    tree, of_tree = gradients(small("arpo"), "llama", "auto", TruncatedImportanceSampling())
    assert of_flat["clipped"] == of_tree["clipped"] == 0.0
    worst = worst_difference(flat, tree)
    assert worst[1] <= BOUND, worst
