"""Training on packed trees: gradients of flat rows, for every model family, loss and cut; and models that cannot."""

import logging
import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import tiny_model
from packing_toys import comb, random_tree

from algorithms import forward, packable
from algorithms.advantages import Scores
from algorithms.advantages.soft import SoftAttribution
from algorithms.aggregation import path_scales
from algorithms.flat import rows_of
from algorithms.forward import visible, visible_blocks
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.mismatch import Mismatch
from algorithms.packable import greatest_difference, why_not_packable
from algorithms.packer import Packer
from algorithms.packing import Cost, PackedRow, cut, pack
from algorithms.tree import RolloutTree
from arpo_envs import ConfigError

FAMILIES = ["llama", "qwen2", "qwen3"]


def grad(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def update(
    trees: list[RolloutTree], packing: Any, family: str = "llama", *, budget: int = 10**6, loss: Any = ClipLoss(),
    aggregation: Any = "token", cost: Cost = Cost(), needs: frozenset[str] = frozenset(), **options: Any
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:  # fmt: skip
    config = LearnerConfig(token_budget=budget, gradient_clip=1e9, packing=packing)
    learner = TorchLearner(tiny_model(family, vocabulary=64, **options), config, reference=bool(needs))
    learner._packer.cost = cost
    scores = learner.score(trees, needs)  # type: ignore[arg-type]
    metrics = learner.update(trees, SoftAttribution()(trees, scores), scores, loss, aggregation)
    return grad(learner.model), dict(metrics)


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """max |difference| / max |gradient|, of the worst parameter."""
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-9)) for name in one)


TREES = [random_tree(seed, nodes=24) for seed in (1, 2, 5)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_the_gradient_is_that_of_flat_rows(family: str, aggregation: str) -> None:
    flat, of_flat = update(TREES, "flat", family, aggregation=aggregation)
    tree, of_tree = update(TREES, "auto", family, aggregation=aggregation)
    assert of_tree["sharing_ratio"] > 1.5
    assert of_flat["sharing_ratio"] == 1.0
    assert largest_difference(flat, tree) <= 1e-5
    assert {**of_tree, "sharing_ratio": 1.0} == pytest.approx(of_flat, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("budget", [1, 30, 60, 10**6])
@pytest.mark.parametrize("pair", [0.0, 0.01])
def test_cuts_and_micro_batches_change_nothing(budget: int, pair: float) -> None:
    flat, _ = update(TREES, "flat")
    tree, _ = update(TREES, "auto", budget=budget, cost=Cost(pair))
    assert largest_difference(flat, tree) <= 1e-5


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_shards_add_up_to_the_whole(aggregation: Any) -> None:
    whole, _ = update(TREES, "auto", aggregation=aggregation)
    rows = rows_of(TREES, SoftAttribution()(TREES, Scores()))
    scales = path_scales([float(row.weight[1:].sum()) for row in rows], aggregation)
    total = {name: torch.zeros_like(gradient) for name, gradient in whole.items()}
    for shard in ([0, 3, 4, 5], [n for n in range(len(rows)) if n not in (0, 3, 4, 5)]):  # the first tree is in both
        learner = TorchLearner(tiny_model(vocabulary=64), LearnerConfig())
        for batch, numbers in learner._packer.batches(TREES, rows, shard):
            learner._backward(batch, torch.tensor([scales[n] for n in numbers]), 1.0, ClipLoss(), Mismatch("token"))
        for name, gradient in grad(learner.model).items():
            total[name] += gradient
    assert largest_difference(whole, total) <= 1e-5


def test_with_a_penalty_to_a_reference() -> None:
    needs = frozenset({"reference"})
    flat, _ = update(TREES, "flat", loss=ClipLoss(kl=0.1), needs=needs)
    tree, metrics = update(TREES, "auto", loss=ClipLoss(kl=0.1), needs=needs)
    assert largest_difference(flat, tree) <= 1e-5
    assert metrics["sharing_ratio"] > 1.5


def test_eager_attention_and_tied_embeddings() -> None:
    for options in ({"attn_implementation": "eager"}, {"tie_word_embeddings": True}):
        flat, _ = update(TREES, "flat", **options)
        tree, metrics = update(TREES, "auto", **options)
        assert metrics["sharing_ratio"] > 1.5
        assert largest_difference(flat, tree) <= 1e-5


def test_a_chain_of_forks() -> None:
    some = [comb(60)]
    flat, _ = update(some, "flat", budget=4096)
    tree, metrics = update(some, "auto", budget=4096)
    assert metrics["sharing_ratio"] > 10
    assert largest_difference(flat, tree) <= 1e-5


# --- FlexAttention -----------------------------------------------------------------------------------------------


def test_blocks_hide_what_the_mask_hides() -> None:
    end_RN = torch.from_numpy(np.stack([pack(tree, range(4)).end[:20] for tree in TREES])).clamp(max=20)
    row, head, query, key = torch.meshgrid(*map(torch.arange, (3, 1, 20, 20)), indexing="ij")
    assert torch.equal(visible_blocks(end_RN).mask_mod(row, head, query, key)[:, 0], visible(end_RN))


@pytest.mark.slow  # it is compiled for half a minute
@pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="torch compiles FlexAttention with g++ and Python's headers",
)
@pytest.mark.filterwarnings(
    "ignore:_compile flag on create_block_mask was originally added:DeprecationWarning"
)  # by transformers
@pytest.mark.filterwarnings(  # torch's own, when it imports its compiler
    "ignore:`torch.jit.script_method` is deprecated. Please switch to `torch.compile` or `torch.export`.:DeprecationWarning"
)
def test_flex_attention_says_what_sdpa_says() -> None:
    model = tiny_model(vocabulary=64, hidden_size=128)
    model.set_attn_implementation("flex_attention")
    assert why_not_packable(model) is None
    assert greatest_difference(model) < 1e-4


def test_flex_attention_trains_on_cuda_only() -> None:
    with pytest.raises(ConfigError, match="no backward pass on cpu"):
        TorchLearner(tiny_model(vocabulary=64), LearnerConfig(attention="flex_attention"))


# --- the check before the first row ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_ordinary_models_can_be_packed(family: str) -> None:
    model = tiny_model(family, vocabulary=64)
    assert why_not_packable(model) is None
    assert greatest_difference(model) < 1e-5


def off_by_one(end_RN: torch.Tensor) -> torch.Tensor:
    place_N = torch.arange(end_RN.shape[1])
    return (place_N[:, None] >= place_N) & (place_N[:, None] <= end_RN[:, None, :])


def without_ends(end_RN: torch.Tensor) -> torch.Tensor:
    return torch.ones(end_RN.shape[1], end_RN.shape[1]).tril().bool().expand(len(end_RN), -1, -1)


@pytest.mark.parametrize("wrong", [off_by_one, without_ends])
def test_a_wrong_mask_is_caught_and_training_goes_on_flat(
    wrong: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flat, _ = update(TREES, "flat")
    monkeypatch.setattr(forward, "visible", wrong)
    with caplog.at_level(logging.WARNING):
        tree, metrics = update(TREES, "auto")
    assert "differ by" in caplog.text
    assert metrics["sharing_ratio"] == 1.0
    assert largest_difference(flat, tree) <= 1e-5


HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "as initialised": {"hidden_size": 64, "initializer_range": 0.02},  # hardly any difference, and none of it hidden
    "deep": {"num_hidden_layers": 12},
}


@HALF
@pytest.mark.parametrize("shape", SHAPES)
def test_in_half_precision_rounding_is_told_from_a_wrong_mask(
    shape: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("qwen2", vocabulary=64, **SHAPES[shape]).to(dtype)
    assert why_not_packable(model) is None
    monkeypatch.setattr(forward, "visible", off_by_one)
    assert "differ by" in str(why_not_packable(model))


def test_measuring_the_rounding_leaves_nothing_behind() -> None:
    model = tiny_model(vocabulary=64).bfloat16()
    one, other = packable.rounding(model), packable.rounding(model)
    assert one == other > 1e-3
    assert not model.get_input_embeddings()._forward_hooks
    assert packable.rounding(tiny_model(vocabulary=64)) < 1e-4


def test_wrong_positions_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = packable.pack

    def wrong(tree: RolloutTree, leaves: Any) -> PackedRow:
        row = real(tree, leaves)
        return replace(row, position=row.position + (row.position > 12)) if len(leaves) > 1 else row

    monkeypatch.setattr(packable, "pack", wrong)
    assert "differ by" in str(why_not_packable(tiny_model(vocabulary=64)))


def test_models_that_keep_a_state_or_a_window_or_sinks_are_recognised() -> None:
    windowed = tiny_model("qwen3", vocabulary=64, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert "sliding_attention" in str(why_not_packable(windowed))
    sunk = tiny_model(vocabulary=64)
    sunk.register_parameter("sinks", torch.nn.Parameter(torch.zeros(1)))
    assert "sinks" in str(why_not_packable(sunk))
    flexible = tiny_model(vocabulary=64)
    flexible.config._attn_implementation = "flash_attention_2"
    assert "load it with sdpa" in str(why_not_packable(flexible))


def test_the_model_is_checked_once_and_only_if_something_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("algorithms.packer.why_not_packable", lambda model: asked.append(model))
    packer = Packer(tiny_model(vocabulary=64), 10**6, cost=Cost())
    alone = random_tree(1, nodes=1)
    packer._plan([alone], [0])
    assert not asked
    for _ in range(2):
        packer._plan(TREES, list(range(4)))
    assert len(asked) == 1


def test_large_models_share_more_readily_than_small_ones() -> None:
    small = Cost.of(tiny_model(vocabulary=64).config, 10_000)
    large = Cost.of(tiny_model(vocabulary=64).config, 10_000_000)
    assert small.pair > large.pair > 0
    tree = random_tree(9, nodes=40, longest=40)
    leaves = range(len(tree.leaves()))
    assert len(cut(tree, leaves, small, 10**6)) >= len(cut(tree, leaves, large, 10**6))
