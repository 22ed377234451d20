"""Training on packed trees: gradients of flat rows, for every model family, loss and cut; and models that cannot."""

import copy
import functools
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
from rounding import Numbers, check_equal, rounding
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.advantages import Scores
from algorithms.advantages.soft import SoftAttribution
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.learner.mismatch import Mismatch
from algorithms.learner.model_changes import set_attention
from algorithms.losses.aggregation import path_scales
from algorithms.losses.clip import ClipLoss
from algorithms.models.attention import Reach
from algorithms.packing import batch as batches
from algorithms.packing import packable
from algorithms.packing.batch import visible, visible_blocks
from algorithms.packing.flat import rows_of
from algorithms.packing.layout import Cost, PackedRow, cut, joined, pack
from algorithms.packing.packable import difference, why_not_packable
from algorithms.packing.packer import Packer
from algorithms.tree import RolloutTree
from arpo_envs import ConfigError

pytestmark = pytest.mark.numeric

FAMILIES = ["llama", "qwen2", "qwen3"]


F32, F64 = torch.float32, torch.float64
TREES = {"random": [random_tree(seed, nodes=24) for seed in (1, 2, 5)], "comb": [comb(60)]}


def grad(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def update(
    packing: Any, model: Any, *, trees: str = "random", kl: float = 0.0, aggregation: Any = "token",
    budget: int = 10**6, cost: Cost = Cost(),
) -> tuple[Numbers, float]:  # fmt: skip
    """The gradients and the metrics of one update, and the sharing ratio."""
    config = LearnerConfig(micro_batch_tokens=budget, gradient_clip=1e9, packing=packing)
    learner = TorchLearner(model, config, reference=kl > 0.0)
    learner._packer.cost = cost
    scores = learner.score(TREES[trees], frozenset({"reference"} if kl else ()))
    credit = SoftAttribution()(TREES[trees], scores)
    metrics = dict(learner.update(TREES[trees], credit, scores, ClipLoss(kl=kl), aggregation))
    sharing = metrics.pop("sharing_ratio")
    return grad(learner.model) | {name: torch.tensor(value, dtype=model.dtype) for name, value in metrics.items()}, sharing


@functools.cache
def flat(family: str, dtype: torch.dtype, options: tuple[tuple[str, Any], ...], kind: tuple[tuple[str, Any], ...]) -> Any:
    """The same of flat rows, and what rounding does to it."""

    def compute(model: Any) -> Numbers:
        numbers, sharing = update("flat", model, **dict(kind))
        assert sharing == 1.0
        return numbers

    model = tiny_model(family, vocabulary=64, dtype=dtype, **dict(options))
    return compute(copy.deepcopy(model)), rounding(compute, model)


def check_packed(
    family: str = "llama", dtype: torch.dtype = F64, *, budget: int = 10**6, cost: Cost = Cost(),
    options: dict[str, Any] | None = None, **kind: Any
) -> float:  # fmt: skip
    """Asserts that an update on packed trees is that on flat rows; returns the sharing ratio."""
    options = options or {}
    model = tiny_model(family, vocabulary=64, dtype=dtype, **options)
    packed, sharing = update("auto", model, budget=budget, cost=cost, **kind)
    check_equal(packed, *flat(family, dtype, tuple(options.items()), tuple(kind.items())))
    return sharing


@pytest.mark.turns("family")
@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_the_gradient_is_that_of_flat_rows(family: str, aggregation: str, dtype: torch.dtype) -> None:
    assert check_packed(family, dtype, aggregation=aggregation) > 1.5


@pytest.mark.parametrize("budget", [1, 30, 60, 10**6])
@pytest.mark.parametrize("pair", [0.0, 0.01])
def test_cuts_and_micro_batches_change_nothing(budget: int, pair: float) -> None:
    check_packed(budget=budget, cost=Cost(pair))


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_shards_add_up_to_the_whole(aggregation: Any) -> None:
    trees = TREES["random"]
    rows = rows_of(trees, SoftAttribution()(trees, Scores()))
    scales = path_scales([float(row.weight[1:].sum()) for row in rows], aggregation)
    whole, rounded = flat("llama", F64, (), (("aggregation", aggregation),))
    total = {name: torch.zeros_like(gradient) for name, gradient in whole.items() if gradient.ndim}
    for shard in ([0, 3, 4, 5], [n for n in range(len(rows)) if n not in (0, 3, 4, 5)]):  # the first tree is in both
        learner = TorchLearner(tiny_model(vocabulary=64, dtype=F64), LearnerConfig())
        for batch, numbers in learner._packer.batches(trees, rows, shard):
            scale_B = torch.tensor([scales[n] for n in numbers], dtype=F64)
            learner._backward(batch, scale_B, 1.0, ClipLoss(), Mismatch("token"))
        for name, gradient in grad(learner.model).items():
            total[name] += gradient
    check_equal(total, {name: whole[name] for name in total}, {name: rounded[name] for name in total})


def test_with_a_penalty_to_a_reference() -> None:
    assert check_packed(kl=0.1) > 1.5


@pytest.mark.parametrize(
    ("dtype", "options"),
    [(F32, {"attn_implementation": "eager"}), (F64, {"tie_word_embeddings": True})],  # eager attention is never in float64
    ids=["eager", "tied"],
)
def test_eager_attention_and_tied_embeddings(dtype: torch.dtype, options: dict[str, Any]) -> None:
    assert check_packed(dtype=dtype, options=options) > 1.5


@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
def test_a_chain_of_forks(dtype: torch.dtype) -> None:
    assert check_packed(dtype=dtype, trees="comb", budget=4096) > 10


# --- FlexAttention -----------------------------------------------------------------------------------------------


def long_row(seed: int, blocks: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns where each token's subtree ends, and its position, [1, N], of random trees in one row, and of padding."""
    trees = [random_tree(10 * seed + number, nodes=14, longest=40) for number in range(blocks)]
    row = joined([pack(tree, range(len(tree.leaves()))) for tree in trees])
    length = len(row) + -len(row) % batches.BLOCK + batches.BLOCK
    end, position = np.arange(1, length + 1), np.zeros(length, dtype=np.int64)
    end[: len(row)], position[: len(row)] = row.end, row.position
    return torch.from_numpy(end)[None], torch.from_numpy(position)[None]


def dense(blocks: Any, length: int) -> torch.Tensor:
    """Returns what blocks let through, [F, F]: all of the whole ones, what the mask says of the others that are listed."""
    _, _, part, part_index, whole, whole_index, *_ = blocks.as_tuple()
    place = torch.arange(length)
    inside = blocks.mask_mod(torch.tensor(0), torch.tensor(0), place[:, None], place[None])
    found = torch.zeros(length, length, dtype=torch.bool)
    for counts, index, everything in ((part, part_index, False), (whole, whole_index, True)):
        for query, count in enumerate(counts[0, 0].tolist()):
            for key in index[0, 0, query, :count].tolist():
                here = tuple(slice(block * batches.BLOCK, (block + 1) * batches.BLOCK) for block in (query, key))
                found[here] = True if everything else inside[here]
    return found


@pytest.mark.parametrize("reach", [Reach(), Reach(window=3), Reach(window=150), Reach(chunk=50)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_blocks_hide_what_the_mask_hides(seed: int, reach: Reach) -> None:
    end_1N, position_1N = long_row(seed)
    hidden_FF = reach.hides(position_1N[0, :, None], position_1N[0])
    seen_FF = visible(end_1N)[0] if hidden_FF is None else visible(end_1N)[0] & ~hidden_FF
    assert torch.equal(dense(visible_blocks(end_1N, position_1N, reach), end_1N.shape[1]), seen_FF)


def test_blocks_that_nobody_sees_are_left_out_and_those_all_see_are_not_looked_into() -> None:
    ends = [768] * 300 + [520] * 220 + [768] * 248  # a prompt and two branches
    end_1N, position_1N = torch.tensor([ends]), torch.tensor([[*range(520), *range(300, 548)]])
    blocks = visible_blocks(end_1N, position_1N)
    seen_CWCW = visible(end_1N)[0].unflatten(1, (-1, batches.BLOCK)).unflatten(0, (-1, batches.BLOCK))
    some_CC, all_CC = seen_CWCW.any(3).any(1), seen_CWCW.all(3).all(1)
    assert torch.equal(blocks.full_kv_num_blocks[0, 0], all_CC.sum(1))
    assert torch.equal(blocks.kv_num_blocks[0, 0], (some_CC & ~all_CC).sum(1))
    assert int(all_CC.sum()) == 5 + 4 + 1, "blocks 0 and 1 are seen by all later ones, block 2 by the next"
    assert int(some_CC.sum()) == 21 - 1, "the last block sees nothing of the fourth"


def test_nobody_holds_the_whole_mask_of_blocks() -> None:
    length, largest = 2048, 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            largest = max(largest, *(it.numel() for it in (out if isinstance(out, tuple) else (out,))))
            return out

    end_1N = torch.full((1, length), length)
    with Watch():
        visible_blocks(end_1N, torch.arange(length)[None])
    assert length <= largest <= (length // batches.BLOCK) * length


def test_rows_for_flex_attention_are_one_row_of_whole_blocks() -> None:
    model = tiny_model(vocabulary=64)
    model.config._attn_implementation = "flex_attention"
    trees = TREES["random"]
    credit = SoftAttribution()(trees, Scores())
    rows = rows_of(trees, credit)
    packed = [pack(trees[0], [0, 1]), pack(trees[0], [2])]
    batch = batches.lay_out(packed, rows, model, torch.device("cpu"))
    assert batch.ids_RF.shape == (1, batches.BLOCK)
    assert batch.computed_tokens == sum(map(len, packed))
    for line, leaf in zip(batch.index_BT, [0, 1, 2], strict=True):
        tokens = rows[leaf].tokens
        assert batch.ids_RF[0, line[: len(tokens)]].tolist() == tokens.tolist()
        assert batch.tree["position_ids"][0, line[: len(tokens)]].tolist() == list(range(len(tokens)))


def test_for_flex_attention_a_trees_mask_is_no_dearer_than_a_plain_rows() -> None:
    model = tiny_model(vocabulary=64)
    assert Packer(model, 100).cost.masked > 1.0
    model.config._attn_implementation = "flex_attention"
    assert Packer(model, 100).cost == replace(Packer(tiny_model(vocabulary=64), 100).cost, masked=1.0)


def test_a_model_without_flex_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match="transformers has no flex_attention for gpt2"):
        set_attention(tiny_model("gpt2"), "flex_attention")


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
    assert difference(model) <= packable.ROOM * packable.rounding(model)


def test_flex_attention_trains_on_cuda_only() -> None:
    with pytest.raises(ConfigError, match="no backward pass on cpu"):
        TorchLearner(tiny_model(vocabulary=64), LearnerConfig(attention="flex_attention"))


# --- the check before the first row ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_ordinary_models_can_be_packed(family: str) -> None:
    model = tiny_model(family, vocabulary=64)
    assert why_not_packable(model) is None
    assert difference(model) <= packable.ROOM * packable.rounding(model)


def off_by_one(end_RF: torch.Tensor) -> torch.Tensor:
    place_F = torch.arange(end_RF.shape[1])
    return (place_F[:, None] >= place_F) & (place_F[:, None] <= end_RF[:, None, :])


def without_ends(end_RF: torch.Tensor) -> torch.Tensor:
    return torch.ones(end_RF.shape[1], end_RF.shape[1]).tril().bool().expand(len(end_RF), -1, -1)


@pytest.mark.parametrize("wrong", [off_by_one, without_ends])
def test_a_wrong_mask_is_caught_and_training_goes_on_flat(
    wrong: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flat("llama", F64, (), ())
    monkeypatch.setattr(batches, "visible", wrong)
    with caplog.at_level(logging.WARNING):
        assert check_packed() == 1.0
    assert "differ by" in caplog.text


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
    monkeypatch.setattr(batches, "visible", off_by_one)
    assert "differ by" in str(why_not_packable(model))


def test_measuring_the_rounding_leaves_nothing_behind() -> None:
    model = tiny_model(vocabulary=64).bfloat16()
    one, other = packable.rounding(model), packable.rounding(model)
    assert one == other > 1e-3
    assert not model.get_input_embeddings()._forward_hooks
    assert packable.rounding(tiny_model(vocabulary=64)) < one / 1000


def test_wrong_positions_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = packable.pack

    def wrong(tree: RolloutTree, leaves: Any) -> PackedRow:
        row = real(tree, leaves)
        return replace(row, position=row.position + (row.position > 12)) if len(leaves) > 1 else row

    monkeypatch.setattr(packable, "pack", wrong)
    assert "differ by" in str(why_not_packable(tiny_model(vocabulary=64)))


def test_windows_are_packed_and_ignored_ones_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    windowed = tiny_model("qwen3", vocabulary=64, use_sliding_window=True, sliding_window=40, max_window_layers=1)
    assert why_not_packable(windowed, 96) is None
    monkeypatch.setattr(batches, "reaches", lambda config: {"": Reach()})
    assert why_not_packable(windowed, 32) is None, "paths shorter than the window say nothing"
    assert "differ by" in str(why_not_packable(windowed, 96))


def test_what_the_mask_cannot_say_is_recognised() -> None:
    flexible = tiny_model(vocabulary=64)
    flexible.config._attn_implementation = "flash_attention_2"
    assert "load it with sdpa" in str(why_not_packable(flexible))


def test_the_model_is_checked_once_and_only_if_something_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("algorithms.packing.packer.why_not_packable", lambda model, length, scorer: asked.append(length))
    packer = Packer(tiny_model(vocabulary=64), 10**6, cost=Cost())
    alone = random_tree(1, nodes=1)
    packer._plan([alone], [0])
    assert not asked
    for _ in range(2):
        packer._plan(TREES["random"], list(range(4)))
    assert len(asked) == 1
    packer.why_flat(asked[0])
    assert len(asked) == 1
    packer.why_flat(2 * asked[0])
    assert asked[1:] == [2 * asked[0]], "longer paths are another matter"


def test_large_models_share_more_readily_than_small_ones() -> None:
    small = Cost.of(tiny_model(vocabulary=64).config, 10_000)
    large = Cost.of(tiny_model(vocabulary=64).config, 10_000_000)
    assert small.pair > large.pair > 0
    tree = random_tree(9, nodes=40, longest=40)
    leaves = range(len(tree.leaves()))
    assert len(cut(tree, leaves, small, 10**6)) >= len(cut(tree, leaves, large, 10**6))
