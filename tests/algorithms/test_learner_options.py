"""What a learner can be told: schedules, minibatches, precision, adapters, an entropy bonus, a value head, bad gradients."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_toys import tiny_model
from packing_toys import random_tree
from rounding import ROOM, Numbers, check_equal, rounding, toy_nats

from algorithms.advantages import Credit, Scores, sampled_weights
from algorithms.advantages.soft import SoftAttribution
from algorithms.learner import LearnerConfig, LoRA, TorchLearner
from algorithms.learner.optimization import Diverged, Schedule
from algorithms.losses import LossInputs, LossOutput
from algorithms.losses.clip import ClipLoss
from algorithms.losses.reinforce import ReinforceLoss
from algorithms.losses.value import ValueLoss
from arpo_envs.errors import ConfigError

pytestmark = pytest.mark.numeric

TREES = [random_tree(seed, nodes=16) for seed in (1, 2, 5, 8)]
CREDIT = SoftAttribution()(TREES, Scores())


def toy(family: str = "llama", dtype: torch.dtype = torch.float64) -> Any:
    return tiny_model(family, vocabulary=64, dtype=dtype)


def made(model: Any = None, **options: Any) -> TorchLearner:
    built = {name: options.pop(name) for name in ("reference", "values", "seed") if name in options}
    return TorchLearner(
        toy() if model is None else model, LearnerConfig(**{"learning_rate": 1e-2, "gradient_clip": 1e9} | options), **built
    )


def step(learner: TorchLearner, loss: Any = ClipLoss(), credit: Credit = CREDIT, scores: Scores = Scores()) -> dict[str, float]:
    return dict(learner.update(TREES, credit, scores, loss, "token"))


def parameters(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradients(model: Any) -> Numbers:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def flat(numbers: Numbers) -> torch.Tensor:
    return torch.cat([value.flatten() for value in numbers.values()])


def take_over(other: TorchLearner, one: TorchLearner, folder: Path) -> None:
    one.save(folder / "learner")
    other.load(folder / "learner")


# --- the learning rate ---------------------------------------------------------------------------------------


def test_the_rate_rises_and_falls_and_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    schedule = Schedule(warmup=2, decay="linear", steps=6)
    learner = made(schedule=schedule)
    rates = [step(learner)["learning_rate"] for _ in range(3)]
    other = made(schedule=schedule)
    other.model.load_state_dict(learner.model.state_dict())
    take_over(other, learner, tmp_path)
    rates += [step(other)["learning_rate"] for _ in range(2)]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.005])


def test_a_decay_ends_where_it_was_planned_whichever_updates_taught_something(tmp_path: Path) -> None:
    idle = replace(CREDIT, advantages=tuple(tuple(0.0 * path for path in tree) for tree in CREDIT.advantages))
    learner = made(schedule=Schedule(decay="linear", steps=8), epochs=2)
    assert step(learner)["learning_rate"] == pytest.approx(1e-2 * (8 + 7) / 2 / 8)
    assert "learning_rate" not in step(learner, credit=idle)
    other = made(schedule=learner.config.schedule, epochs=2)
    take_over(other, learner, tmp_path)
    assert "learning_rate" not in step(other, credit=idle)
    assert step(other)["learning_rate"] == pytest.approx(1e-2 * (2 + 1) / 2 / 8)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"decay": "steep"}, "constant"), ({"warmup": -1}, "warmup"), ({"floor": 2.0}, "floor"),
     ({"decay": "linear", "warmup": 5, "steps": 5}, "decay needs more optimizer steps")],
)  # fmt: skip
def test_bad_schedules_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Schedule(**options)


def test_a_decay_is_told_its_end_before_it_begins() -> None:
    asked = LearnerConfig(schedule=Schedule(warmup=5, decay="cosine"), epochs=2, minibatches=3)
    assert asked.over(updates=1).schedule == Schedule(warmup=5, decay="cosine", steps=6)
    with pytest.raises(ConfigError, match="A cosine decay needs more optimizer steps than the warm-up of 5; got None"):
        TorchLearner(toy(), asked)
    with pytest.raises(ConfigError, match="more optimizer steps than the warm-up of 5; got 5"):
        LearnerConfig(schedule=asked.schedule).over(updates=5)
    assert LearnerConfig(schedule=Schedule(warmup=5)).over(updates=5).schedule(9) == 1.0


def test_a_cosine_by_hand() -> None:
    schedule = Schedule(decay="cosine", steps=4, floor=0.1)
    assert [schedule(i) for i in (0, 2, 4, 9)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


# --- epochs and minibatches ------------------------------------------------------------------------------------


def test_every_tree_is_in_one_minibatch_of_every_epoch_and_the_order_is_drawn_anew() -> None:
    learner = made(minibatches=2, seed=3)
    deals = [learner._deal(4, epoch) for epoch in range(8)]
    assert all(sorted(tree for part in deal for tree in part) == [0, 1, 2, 3] for deal in deals)
    assert len({str(deal) for deal in deals}) > 1
    assert made(minibatches=2, seed=3)._deal(4, 0) == deals[0]
    assert [len(part) for part in made(minibatches=9)._deal(4, 0)] == [1, 1, 1, 1]


def test_in_later_steps_the_ratio_is_to_the_weights_before_the_update() -> None:
    seen: list[LossInputs] = []

    def spy(inputs: LossInputs) -> LossOutput:
        seen.append(inputs)
        return ClipLoss()(inputs)

    metrics = step(made(epochs=3, packing="flat"), spy)
    old = [inputs.old_logp_BT for inputs in seen]
    assert len(seen) == 3
    assert torch.equal(old[0], old[1])
    assert torch.equal(old[0], old[2])
    assert (seen[0].logp_BT - old[0]).abs().max() <= toy_nats()
    assert (seen[2].logp_BT - old[2]).abs().max() > 1e-3
    assert metrics["policy_kl"] > 0.0
    assert metrics["trained_tokens"] == 3 * sum(float((w > 0).sum()) for rows in CREDIT.weights for w in rows)


def test_several_optimizer_steps_move_on_and_one_is_one() -> None:
    start = parameters(toy())
    once, twice = made(), made(epochs=2)
    step(once), step(twice)
    assert (once._updates, twice._updates) == (1, 2)
    assert not torch.equal(parameters(once.model), start)
    assert not torch.equal(parameters(once.model), parameters(twice.model))


@pytest.mark.parametrize("options", [{"epochs": 2}, {"minibatches": 2}])
def test_a_loss_without_a_ratio_is_refused_several_steps(options: dict[str, int]) -> None:
    learner = made(**options)
    with pytest.raises(ConfigError, match=r"ReinforceLoss .*epochs = \d and minibatches = \d take 2"):
        step(learner, ReinforceLoss())
    assert torch.equal(parameters(learner.model), parameters(toy()))
    assert step(made(), ReinforceLoss())["gradient_norm"] > 0.0


# --- precision and memory --------------------------------------------------------------------------------------


def test_autocast_changes_little() -> None:
    exact, rough = made(toy(dtype=torch.float32)), made(toy(dtype=torch.float32), autocast="bfloat16")
    step(exact), step(rough)
    one, other = flat(gradients(exact.model)), flat(gradients(rough.model))
    assert rough.model.dtype == torch.float32
    assert not torch.equal(one, other)
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_nothing_not_even_by_dropout(family: str) -> None:
    def stepped(model: Any, *, checkpointing: bool) -> TorchLearner:
        learner = made(model, gradient_checkpointing=checkpointing)
        step(learner)
        return learner

    plain, learner = (stepped(toy(family), checkpointing=on) for on in (False, True))
    rounded = rounding(lambda model: gradients(stepped(model, checkpointing=False).model), toy(family))
    check_equal(gradients(learner.model), gradients(plain.model), rounded)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    layer = next(module for name, module in learner.model.named_modules() if name.endswith(".mlp"))
    layer.register_forward_hook(count)
    step(learner)
    assert calls == 2, "once forward, once again in the backward pass"


# --- adapters ----------------------------------------------------------------------------------------------------


def test_adapters_alone_are_trained_and_the_merged_weights_are_the_models_own() -> None:
    learner = made(lora=LoRA(rank=2, alpha=4), reference=True)
    plain = toy()
    assert learner.reference is None, "the model without its adapters is the reference"
    start = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    for _ in range(2):
        step(learner)
    moved = {name for name, tensor in learner.model.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    ids = torch.arange(12)[None]
    logit = ROOM * rounding(lambda model: {"logits": model(input_ids=ids).logits}, toy())["logits"]
    merged = toy()
    merged.load_state_dict(learner.weights())
    with torch.no_grad():
        wanted = learner.model(input_ids=ids).logits
        assert (merged(input_ids=ids).logits - wanted).abs().max() <= logit
        assert (plain(input_ids=ids).logits - wanted).abs().max() > 1e-3
    reference = learner.score(TREES, frozenset({"reference"})).reference
    other = TorchLearner(plain, LearnerConfig(), reference=True).score(TREES, frozenset({"reference"})).reference
    assert reference is not None
    assert other is not None
    assert np.abs(np.concatenate(reference[0]) - np.concatenate(other[0])).max() <= toy_nats()


def test_a_resumed_run_has_its_adapters_back(tmp_path: Path) -> None:
    one = made(lora=LoRA(rank=2))
    step(one)
    other = made(lora=LoRA(rank=2))
    take_over(other, one, tmp_path)
    step(one), step(other)
    assert torch.equal(parameters(one.model), parameters(other.model))


# --- what is logged ------------------------------------------------------------------------------------------------


@pytest.mark.turns("packing")
@pytest.mark.parametrize("packing", ["flat", "auto"])
@pytest.mark.parametrize("tokens", [64, 16384])
def test_logged_shares_are_means_over_the_tokens_computed_whatever_the_aggregation(packing: Any, tokens: int) -> None:
    def steady(inputs: LossInputs) -> LossOutput:
        return LossOutput(ClipLoss()(inputs).loss_BT, {"one": torch.ones_like(inputs.logp_BT)})

    useful = [i for i, rows in enumerate(CREDIT.advantages[0]) if rows.any()]
    silent = tuple(  # rows without advantage are not computed, and not part of the mean
        tuple(a if i in useful[:2] else np.zeros_like(a) for i, a in enumerate(rows)) for rows in CREDIT.advantages
    )
    for aggregation in ("token", "sequence", 1, 4096):
        for credit in (CREDIT, Credit(silent, CREDIT.weights)):
            learner = made(packing=packing, micro_batch_tokens=tokens, minibatches=2)
            assert learner.update(TREES, credit, Scores(), steady, aggregation)["one"] == pytest.approx(1.0)  # type: ignore[arg-type]


def test_a_step_without_anything_to_learn_says_nothing_of_the_sampler() -> None:
    nothing = Credit(tuple(tuple(np.zeros_like(a) for a in rows) for rows in CREDIT.advantages), CREDIT.weights)
    metrics = step(made(), credit=nothing)
    assert metrics["gradient_norm"] == 0.0
    assert not {"loss", "clipped", "mismatch_kl", "effective_sample_size"} & metrics.keys()


# --- bad numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers",
    [{"learning_rate": -1.0}, {"learning_rate": float("nan")}, {"weight_decay": -0.1}, {"entropy_bonus": float("inf")},
     {"adam_epsilon": 0.0}, {"gradient_clip": 0.0}, {"gradient_clip": float("nan")}, {"epochs": 0}, {"minibatches": 0},
     {"micro_batch_tokens": 0}, {"bad_steps": 0}, {"autocast": "half"}, {"attention": "as loaded"}, {"importance": "batch"},
     {"importance_cap": 0.9}, {"importance_cap": float("nan")}],
)  # fmt: skip
def test_bad_numbers_are_refused_by_name(numbers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(numbers))):
        LearnerConfig(**numbers)


# --- more in the loss ----------------------------------------------------------------------------------------------


def test_the_entropy_bonus_is_that_of_a_naive_loop() -> None:
    learner = made(entropy_bonus=0.3)
    nothing = Credit(tuple(tuple(np.zeros_like(a) for a in rows) for rows in CREDIT.advantages), CREDIT.weights)
    metrics = step(learner, credit=nothing)

    def naive(model: Any) -> Numbers:
        entropies, counts = [], 0
        for tree in TREES:
            for leaf, weight in zip(tree.leaves(), sampled_weights(tree), strict=True):
                logp = torch.log_softmax(model(input_ids=torch.tensor([tree.tokens(leaf)])).logits[0], -1)
                for t in range(1, len(weight)):
                    if weight[t] > 0:
                        entropies.append(-(logp[t - 1].exp() * logp[t - 1]).sum())
                        counts += 1
        loss = -0.3 * torch.stack(entropies).sum() / counts
        loss.backward()  # type: ignore[no-untyped-call]
        return gradients(model) | {"loss": loss.detach()}

    wanted = naive(toy())
    assert max(float(gradient.abs().max()) for gradient in wanted.values()) > 1e-4
    found = gradients(learner.model) | {"loss": torch.tensor(metrics["loss"], dtype=torch.float64)}
    check_equal(found, wanted, rounding(naive, toy()))


def test_a_value_head_begins_at_nothing_and_learns_what_is_returned(tmp_path: Path) -> None:
    learner = made(values=True)
    scores = learner.score(TREES, frozenset({"values"}))
    assert scores.values is not None
    assert all((value == 0.0).all() for rows in scores.values for value in rows)
    returns = tuple(tuple(np.full(len(a), 0.7) for a in rows) for rows in CREDIT.advantages)
    nothing = tuple(tuple(np.zeros_like(a) for a in rows) for rows in CREDIT.advantages)
    errors = []
    for _ in range(30):
        scores = learner.score(TREES, frozenset({"values"}))
        credit = Credit(nothing, CREDIT.weights, returns)
        errors.append(step(learner, ValueLoss(range=None), credit, scores)["value_error"])
    assert errors[0] == pytest.approx(0.49, rel=1e-3)
    assert errors[-1] < 0.05
    again = made(values=True)
    again.model.load_state_dict(learner.model.state_dict())
    take_over(again, learner, tmp_path)
    one, other = (some.score(TREES, frozenset({"values"})).values for some in (learner, again))
    assert one is not None
    assert other is not None
    assert np.array_equal(np.concatenate(one[0]), np.concatenate(other[0]))


def test_a_value_head_is_as_precise_as_log_probabilities_whatever_the_model_is() -> None:
    learner = made(toy(dtype=torch.bfloat16), values=True)
    scores = learner.score(TREES, frozenset({"values"}))
    returns = tuple(tuple(np.full(len(a), 0.7) for a in rows) for rows in CREDIT.advantages)
    metrics = step(learner, ValueLoss(range=None), Credit(CREDIT.advantages, CREDIT.weights, returns), scores)
    assert learner.value_head is not None
    assert learner.value_head.weight.dtype == torch.float32
    assert metrics["value_error"] == pytest.approx(0.49, rel=1e-3)
    assert metrics["skipped_updates"] == 0.0


@pytest.mark.parametrize("need", ["reference", "values"])
def test_what_was_not_built_is_not_scored(need: Any) -> None:
    with pytest.raises(ConfigError, match=f"{need}=True"):
        made().score(TREES, frozenset({need}))


# --- gradients that are no numbers -----------------------------------------------------------------------------------


def test_a_gradient_that_is_no_number_is_skipped_and_several_in_a_row_end_the_run() -> None:
    def broken(inputs: LossInputs) -> LossOutput:
        return LossOutput(inputs.logp_BT * math.inf)

    learner = made(bad_steps=3)
    before = parameters(learner.model)
    assert step(learner, broken)["skipped_updates"] == 1.0
    assert torch.equal(parameters(learner.model), before)
    assert step(learner)["skipped_updates"] == 0.0
    moved = parameters(learner.model)
    assert not torch.equal(moved, before)
    for _ in range(2):
        step(learner, broken)
    with pytest.raises(Diverged, match="3 gradients in a row"):
        step(learner, broken)
    assert torch.equal(parameters(learner.model), moved), "nothing of a bad gradient arrives"


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"minibatches": 0},
        {"bad_steps": 0},
        {"gradient_clip": 0.0},
        {"entropy_bonus": -1.0},
        {"autocast": "int8"},
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(LearnerConfig(), **options)
