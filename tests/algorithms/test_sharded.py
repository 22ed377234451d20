"""Several ranks learn what one process learns: gradients, weights and metrics, whatever is trained, and on whatever trees.

Ranks are processes that talk through gloo.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from made_once import made_once
from model_toys import byte_tokenizer, tiny_model, written_in
from rounding import check_equal, rounding
from sharded_ranks import TREES, Case, Leg, Numbers, Ranks, compute, final, one_step
from torch.distributed import HashStore
from torch.distributed.device_mesh import init_device_mesh

from algorithms.checkpoint import latest, save_policy
from algorithms.cli import main
from algorithms.learner import LearnerConfig, LoRA, Schedule, ShardedLearner, TorchLearner, ranks
from algorithms.models.loading import load_policy
from algorithms.models.sharded_loading import skeleton
from algorithms.packing import Packer
from algorithms.tracking.trees import read_trees
from algorithms.tree import RolloutTree
from arpo_envs import ConfigError

pytestmark = pytest.mark.numeric

TIED, SMALL = (("tie_word_embeddings", True),), ("micro_batch_tokens", 60)
CASES = [
    Case("plain", config=(SMALL,)),
    Case("tied", model=TIED),
    Case("value", loss="value", optimizer="adamw"),
    Case("lora", loss="kl", config=(("lora", LoRA(2, 4)),)),
    Case("one tree", trees=TREES[:1], loss="kl"),
    Case("float32", dtype="float32", model=TIED, loss="kl"),
    Case("infinite", dtype="float32", huge_at=1),
]
MORE = [
    Case("flat", config=(("packing", "flat"), SMALL)),
    Case("kl", loss="kl", model=TIED),
    Case("plain, adamw", optimizer="adamw", model=TIED),
    Case("lora, adamw", loss="kl", optimizer="adamw", config=(("lora", LoRA(2, 4)),)),
    Case("value, float32", dtype="float32", loss="value"),
    Case("checkpointing", config=(("gradient_checkpointing", True), SMALL)),
    Case("several steps", loss="kl", config=(("epochs", 2), ("minibatches", 2), ("importance", "token"))),
    Case("entropy", config=(("entropy_bonus", 0.1), ("importance", "sequence"))),
    Case("qwen3", model=(("family", "qwen3"), *TIED)),
    Case("gpt2", model=(("family", "gpt2"),)),
    Case("cohere", dtype="float32", model=(("family", "cohere"), ("logit_scale", 0.7), *TIED)),
]


@cache
def on_one(case: Case) -> tuple[Numbers, dict[str, float]]:
    """What one process computes, and how far rounding moves it."""
    return compute(case, case.initial()), dict(rounding(lambda moved: compute(case, moved), case.initial()))


def check_ranks(found: list[dict[str, Numbers]], cases: list[Case]) -> None:
    for case in cases:
        one, rounded = on_one(case)
        assert max(float(one[name].abs().max()) for name in one if name.startswith("gradient of")) > 1e-4 or case.huge_at
        for rank in found:
            check_equal(rank[case.name], one, rounded)
            assert all(torch.equal(rank[case.name][name], found[0][case.name][name]) for name in one), "on all ranks alike"


@pytest.fixture(scope="module")
def on_ranks() -> Iterator[Ranks]:
    with closing(Ranks()) as ranks:
        yield ranks


@pytest.fixture(scope="module")
def two(on_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Numbers]]:
    return on_ranks(2, tmp_path_factory.mktemp("two"), "updates", CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_ranks_learn_what_one_does(case: Case, two: list[dict[str, Numbers]]) -> None:
    check_ranks(two, [case])


def test_a_gradient_that_is_infinite_is_skipped_by_all(two: list[dict[str, Numbers]]) -> None:
    for rank in two:
        skipped = [float(rank["infinite"][f"skipped_updates of step {step}"]) for step in range(3)]
        assert skipped == [0.0, 1.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "cases"),
    [
        pytest.param(1, MORE[::3], marks=pytest.mark.thorough, id="1"),
        pytest.param(2, MORE, id="2"),
        pytest.param(4, CASES[::3], id="4"),
        pytest.param(4, CASES[2::2], marks=pytest.mark.thorough, id="4, more"),
    ],
)
def test_any_number_of_ranks_learns_what_one_does(ranks: int, cases: list[Case], tmp_path: Path, on_ranks: Ranks) -> None:
    check_ranks(on_ranks(ranks, tmp_path / "ranks", "updates", cases), cases)


@pytest.mark.slow
def test_in_mixed_precision_ranks_differ_by_as_much_as_micro_batches(tmp_path: Path, on_ranks: Ranks) -> None:
    """Both add up the same gradients, rounded to bfloat16 in other groups."""
    budgets = [1, 60, 120, 10**6]
    cases = [Case(str(n), "float32", steps=1, config=(("autocast", "bfloat16"), ("micro_batch_tokens", n))) for n in budgets]
    numbers = [compute(case, case.initial()) for case in cases]
    spread = {name: max(float((one[name] - numbers[0][name]).abs().max()) for one in numbers) for name in numbers[0]}
    least = {name: float(it.abs().max()) * torch.finfo(it.dtype).eps for name, it in numbers[0].items()}
    for rank in on_ranks(2, tmp_path / "ranks", "updates", cases[1:2]):
        check_equal(rank["60"], numbers[1], {name: max(spread[name], least[name]) for name in spread})


# --- on the study's trees ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[RolloutTree]:
    """The trees of a step of `arpo train` as the study runs it."""

    def train(folder: Path) -> None:
        assert main(["train", "--output", str(folder), "--steps", "1", "--eval-questions", "8", "--keep-trees", "all"]) == 0

    return list(read_trees(made_once(tmp_path_factory, "study", train) / "trees.jsonl.zst"))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_the_studys_trees_are_dealt_evenly(ranks: int, study: list[RolloutTree]) -> None:
    packer = Packer(tiny_model(vocabulary=64), 16384)
    paths = range(sum(len(tree.leaves()) for tree in study))
    loads = [sum(packer.cost(len(row), len(row.leaves)) for row in mine) for mine in packer.dealt(study, paths, ranks)]
    assert max(loads) - min(loads) <= 0.1 * sum(loads) / ranks


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.thorough)])
def test_on_the_studys_trees_too(ranks: int, study: list[RolloutTree], tmp_path: Path, on_ranks: Ranks) -> None:
    trees = tuple(tree.to_json() for tree in study[:5])
    cases = [
        Case("sgd", dtype="float32", trees=trees, loss="kl", model=TIED),
        Case("adamw", trees=trees, optimizer="adamw", config=(("micro_batch_tokens", 2048),)),
    ]
    check_ranks(on_ranks(ranks, tmp_path / "ranks", "updates", cases), cases)


# --- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rank_holds_its_part_and_gathers_one_or_two_blocks_at_a_time(tmp_path: Path, on_ranks: Ranks) -> None:
    case = Case("deep", model=(("num_hidden_layers", 8), *TIED), config=(SMALL, ("gradient_checkpointing", True)))
    for rank in on_ranks(2, tmp_path / "ranks", "most_gathered", case):
        assert rank["seen"] > 16
        assert rank["whole"] <= 2
        assert rank["own"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_no_rank_ever_held_as_a_whole(tied: bool, tmp_path: Path, on_ranks: Ranks) -> None:
    folder = tmp_path / "policy"
    save_policy(folder, tiny_model(tie_word_embeddings=tied), byte_tokenizer())
    cases = [Case(loss, dtype="float32", loss=loss) for loss in ("kl", "value")]
    cases.append(Case("lora", dtype="float32", loss="kl", config=(("lora", LoRA(2, 4)),)))
    model = load_policy(folder)[0]
    found = on_ranks(2, tmp_path / "ranks", "from_folder", (cases, str(folder)))
    for case in cases:
        one, rounded = compute(case, copy.deepcopy(model)), rounding(lambda moved, case=case: compute(case, moved), model)
        for rank in found:
            check_equal(rank[case.name], one, rounded)


def test_a_skeleton_has_no_weights_but_its_buffers(tmp_path: Path) -> None:
    model = tiny_model(tie_word_embeddings=True)
    save_policy(tmp_path, model, byte_tokenizer())
    bare = skeleton(tmp_path)
    assert all(parameter.is_meta for parameter in bare.parameters())
    assert bare.lm_head.weight is bare.model.embed_tokens.weight
    assert {name: it.shape for name, it in bare.named_parameters()} == {name: it.shape for name, it in model.named_parameters()}
    buffers = dict(bare.named_buffers())
    assert buffers.keys() == dict(model.named_buffers()).keys() != set()
    assert all(torch.equal(buffers[name], it) for name, it in model.named_buffers())
    assert not tiny_model().lm_head.weight.is_meta, "models that are made later have memory"


@pytest.mark.parametrize("name", ["gemma3", "qwen2-5-vl"])
def test_a_model_that_also_sees_has_no_skeleton(name: str, tmp_path: Path) -> None:
    save_policy(tmp_path, ARCHITECTURES[name](), byte_tokenizer())
    with pytest.raises(ConfigError, match=r"a model that also sees \(\w+\), which needs --learners 1\.$"):
        skeleton(tmp_path)


def test_a_folder_without_a_model_has_no_skeleton(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        skeleton(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(ConfigError, match="does not describe a causal language model"):
        skeleton(tmp_path)


# --- what is kept --------------------------------------------------------------------------------------------------


def undisturbed(case: Case, steps: int, model: Any) -> Numbers:
    options = {"learning_rate": 1e-2, "adam_epsilon": 1e-2, "schedule": Schedule(warmup=3)}
    learner = TorchLearner(model, LearnerConfig(**options), reference=True, values=True)
    for _ in range(steps):
        one_step(case, learner)
    return final(learner)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_goes_on_with_another_number_of_ranks_even_if_one_is_killed_while_they_save(
    tmp_path: Path, on_ranks: Ranks
) -> None:
    case, run, start = Case("resumed", trees=TREES[:3]), tmp_path / "run", tmp_path / "run" / "start"
    model = tiny_model(tie_word_embeddings=True)
    save_policy(start, model, byte_tokenizer())
    for i, (size, until, killed_at) in enumerate([(2, 1, None), (1, 2, None), (4, 4, 4), (4, 4, None), (2, 5, None)]):
        leg = Leg(case, str(run), until, killed_at)
        found = on_ranks(size, tmp_path / f"leg-{i}", "resumed", leg, killed=killed_at is not None)
        if killed_at is not None:
            assert latest(run).step == killed_at - 1
        else:
            assert latest(run).step == until
            assert not list((run / "checkpoints").glob(".*"))
    one = undisturbed(case, 5, copy.deepcopy(model))
    rounded = rounding(lambda moved: undisturbed(case, 5, moved), model)
    for rank in found:
        check_equal(rank, one, rounded)
    assert not any(torch.equal(one[name], before) for name, before in model.state_dict().items())
    stored = load_policy(run / "policy")[0].state_dict()
    assert all(torch.equal(stored[name], found[0][name]) for name in stored)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [Case("tied", "float32", model=TIED), Case("lora", "float32", config=(("lora", LoRA(2, 4)),))],
    ids=lambda case: case.name,
)
def test_ranks_save_while_they_learn_and_a_full_disk_of_some_is_one_of_all(case: Case, tmp_path: Path, on_ranks: Ranks) -> None:
    first, second = on_ranks(2, tmp_path / "ranks", "saved_beside", (case, str(tmp_path)))
    at_once, beside = (tmp_path / name / "checkpoints" / "step-000001" for name in ("at once", "beside"))
    assert written_in(at_once) == written_in(beside)
    assert len(written_in(beside)) > 5
    told = f"the checkpoint of step 2 could not be written to {beside.parent}. Older ones are intact."
    assert [line[-len(told) :] for line in first] == ["1", *[told, "1"] * 3, "2"]
    assert second == [line for line in first if not line.isdigit()], "all ranks say the same"
    assert not list(beside.parent.glob(".*"))


# --- what cannot be done -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_ranks_give_up_alike(tmp_path: Path, on_ranks: Ranks) -> None:
    case = Case("diverged", dtype="float32", huge_at=1, config=(("bad_steps", 1),))
    said = on_ranks(2, tmp_path / "ranks", "diverged", case)
    assert said[0] == said[1]
    assert "1 gradients in a row were not finite" in said[0]


@pytest.fixture
def alone() -> Iterator[Any]:
    with ranks("cpu", store=HashStore(), rank=0, world_size=1) as mesh:
        yield mesh


def test_what_cannot_be_sharded_is_refused(alone: Any, tmp_path: Path) -> None:
    save_policy(tmp_path, tiny_model(), byte_tokenizer())
    bare = skeleton(tmp_path)
    with pytest.raises(ConfigError, match="no weights yet"):
        ShardedLearner(bare, mesh=alone)
    with pytest.raises(ConfigError, match="mesh of one dimension, got 2"):
        ShardedLearner(bare, mesh=init_device_mesh("cpu", (1, 1)), folder=tmp_path)
    model = tiny_model()
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ConfigError, match="llama has no blocks"):
        ShardedLearner(model, mesh=alone)
    with pytest.raises(ConfigError, match="would move"):
        ShardedLearner(tiny_model(), LearnerConfig(learning_rate=1e-12), mesh=alone)


def test_a_folder_that_lacks_weights_is_refused(alone: Any, tmp_path: Path) -> None:
    save_policy(tmp_path, tiny_model(tie_word_embeddings=True), byte_tokenizer())
    config = json.loads((tmp_path / "config.json").read_text())
    for changed, said in ({"num_hidden_layers": 3}, "is missing"), ({"intermediate_size": 40}, "has another shape"):
        (tmp_path / "config.json").write_text(json.dumps(config | changed))
        with pytest.raises(ConfigError, match=said):
            ShardedLearner(skeleton(tmp_path), mesh=alone, folder=tmp_path)


def test_a_state_is_that_of_such_a_learner_or_refused(alone: Any, tmp_path: Path) -> None:
    TorchLearner(tiny_model()).save(tmp_path / "learner")
    ShardedLearner(tiny_model(), mesh=alone).load(tmp_path / "learner")
    with pytest.raises(ConfigError, match=r"reference .* is missing"):
        ShardedLearner(tiny_model(), mesh=alone, reference=True).load(tmp_path / "learner")
    adapted = TorchLearner(tiny_model(), LearnerConfig(lora=LoRA(2, 4)))
    with torch.no_grad():
        for weight in adapted._trained:
            weight += 0.1
    adapted.save(tmp_path / "adapters")
    again = ShardedLearner(tiny_model(), LearnerConfig(lora=LoRA(2, 4)), mesh=alone)
    again.load(tmp_path / "adapters")
    sent = again.weights()
    assert all(torch.equal(sent[name], it) for name, it in adapted.weights().items())
    torch.save({}, tmp_path / "learner.pt")
    with pytest.raises(ConfigError, match="Resume it on one rank"):
        ShardedLearner(tiny_model(), mesh=alone).load(tmp_path / "learner")
