"""On packed trees every loss of the family has the gradient it has on flat rows, for every family of models.

Ratios are to the log-probabilities in the trees, which are not the model's, so that every clip has something to do.
"""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import tiny_model
from packing_toys import random_tree
from rounding import Numbers, check_equal, rounding
from small_recipes import SMALL, small

from algorithms.advantages import Credit, sampled_weights
from algorithms.algorithm import Algorithm
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.tree import RolloutTree

pytestmark = pytest.mark.numeric

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
F32, F64 = torch.float32, torch.float64


def random_credit(trees: list[RolloutTree]) -> Credit:
    """Another advantage, weight and return for every token of every path."""
    rng = np.random.default_rng(0)

    def drawn(scale: float) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(rng.normal(0.0, scale, len(tree.tokens(leaf))) for leaf in tree.leaves()) for tree in trees)

    weights = tuple(
        tuple(weight * rng.uniform(0.5, 1.5, len(weight)) for weight in sampled_weights(tree)) for tree in trees
    )  # fmt: skip
    return Credit(drawn(1.0), weights, drawn(0.5))


def updated(algorithm: Algorithm, model: Any, packing: Any, importance: Any = "none") -> tuple[Numbers, float]:
    """Returns the gradient of each parameter with all that is logged, and the sharing ratio."""
    learner = TorchLearner(
        model,
        LearnerConfig(gradient_clip=1e9, packing=packing, entropy_bonus=0.01, importance=importance),
        reference="reference" in algorithm.needs,
        values="values" in algorithm.needs,
    )
    noise = torch.Generator().manual_seed(1)
    moved = [*(learner.reference.parameters() if learner.reference is not None else ())]
    moved += learner.value_head.parameters() if learner.value_head is not None else ()
    with torch.no_grad():
        for parameter in moved:  # or the penalty, and what the head says, would be 0
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise, dtype=F64).to(parameter)
    scores = learner.score(TREES, algorithm.needs)
    credit = random_credit(TREES)
    if "values" not in algorithm.needs:
        credit = Credit(credit.advantages, credit.weights)
    metrics = dict(learner.update(TREES, credit, scores, algorithm.loss, algorithm.aggregation))
    sharing = metrics.pop("sharing_ratio")
    named = [*learner.model.named_parameters()]
    named += learner.value_head.named_parameters() if learner.value_head is not None else []
    gradient = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
    return gradient | {name: torch.tensor(value, dtype=model.dtype) for name, value in metrics.items()}, sharing


def toy(family: str, dtype: torch.dtype = F64) -> Any:
    return tiny_model(vocabulary=64, dtype=dtype, **FAMILIES[family])


def check_packed(algorithm: Algorithm, model: Any, importance: Any = "none") -> Numbers:
    """Asserts that gradients and metrics on packed trees are those on flat rows, and returns them."""
    flat, of_flat = updated(algorithm, copy.deepcopy(model), "flat", importance)
    tree, of_tree = updated(algorithm, copy.deepcopy(model), "auto", importance)
    assert of_tree > 1.5
    assert of_flat == 1.0
    check_equal(tree, flat, rounding(lambda moved: updated(algorithm, moved, "flat", importance)[0], model))
    return tree


def test_the_trees_are_deep_and_share() -> None:
    assert max(len(node.key) for tree in TREES for node in tree.nodes) >= 6
    assert sum(len(tree.leaves()) for tree in TREES) >= 20


@pytest.mark.turns("case", always=5, often=5)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", SMALL)
def test_the_gradient_on_trees_is_that_on_flat_rows(case: str, family: str) -> None:
    found = check_packed(small(case), toy(family))
    assert abs(found["policy_kl"]) > 1e-3
    assert "clipped" not in found or found["clipped"] > 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float32_too(family: str) -> None:
    check_packed(small("arpo"), toy(family, F32))


@pytest.mark.parametrize("case", ["arpo, reference", "tree_po"])
def test_the_dual_clip_is_at_work(case: str) -> None:
    algorithm = small(case)
    assert isinstance(algorithm.loss, ClipLoss)
    without = replace(algorithm, loss=replace(algorithm.loss, dual=None))
    clipped = [updated(one, toy("llama"), "auto")[0]["clipped"] for one in (algorithm, without)]
    assert clipped[0] > clipped[1]


def test_with_the_correction_of_the_sampler() -> None:
    """The ratio is then to the learner's own log-probabilities, and the advantages are weighted."""
    assert check_packed(small("arpo"), toy("llama"), "token")["clipped"] == 0.0
