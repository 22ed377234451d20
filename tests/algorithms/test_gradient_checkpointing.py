"""Activations that are computed twice: the same numbers, without dropout, in whatever `transformers` allows it for."""

import copy
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import tiny_model
from packing_toys import random_tree
from rounding import Numbers, check_equal, rounding
from turns import some_slow

from algorithms.advantages import Scores
from algorithms.advantages.soft import SoftAttribution
from algorithms.learner import LearnerConfig, LoRA, TorchLearner
from algorithms.learner.model_changes import checkpoint_activations
from algorithms.losses.clip import ClipLoss
from arpo_envs import ConfigError

pytestmark = pytest.mark.numeric

TREES = [random_tree(seed, nodes=12) for seed in (1, 2)]
CREDIT = SoftAttribution()(TREES, Scores())
IDS = torch.arange(12)[None]
FAMILIES = ["opt", "falcon-rope", "mixtral", "gpt2", "llama", "qwen3-moe", "gemma2", "bloom"]


def with_dropout(family: str) -> Any:
    """Returns a model that drops half of everything wherever it can, if it is asked to train."""
    model = ARCHITECTURES[family]()
    config = copy.deepcopy(model.config)
    for name, value in vars(model.config).items():
        if ("drop" in name or "jitter" in name) and isinstance(value, float):
            setattr(config, name, 0.5)
    dropping = type(model)(config).eval()
    dropping.load_state_dict(model.state_dict())
    return dropping


def trained(model: Any, *, checkpointing: bool, **options: Any) -> TorchLearner:
    config = LearnerConfig(learning_rate=1e-2, gradient_clip=1e9, gradient_checkpointing=checkpointing, **options)
    learner = TorchLearner(model, config)
    learner.update(TREES, CREDIT, Scores(), ClipLoss(), "token")
    return learner


def numbers(learner: TorchLearner) -> Numbers:
    """Returns the gradients of an update, and the log-probabilities after it."""
    gradients = {name: weight.grad for name, weight in learner.model.named_parameters() if weight.grad is not None}
    return gradients | {"logp": torch.cat([torch.from_numpy(row) for rows in learner.logprobs(TREES) for row in rows]).float()}


def count(module: Any) -> list[int]:
    calls = [0]

    def add(*_: Any) -> None:
        calls[0] += 1

    module.register_forward_pre_hook(add)
    return calls


def inner(model: Any) -> Any:
    """Returns a module inside the first block."""
    return next(module for name, module in model.named_modules() if ".0." in name and not list(module.children()))


def loss(model: Any, **options: Any) -> torch.Tensor:
    result: torch.Tensor = model(input_ids=IDS, **options).logits.log_softmax(-1)[0, :, 3].sum()
    return result


@pytest.mark.parametrize("family", some_slow(FAMILIES, {"llama", "gpt2", "mixtral", "opt", "falcon-rope"}))
def test_nothing_changes_but_that_blocks_are_computed_twice_and_nothing_is_dropped(family: str) -> None:
    plain = trained(with_dropout(family), checkpointing=False)
    learner = trained(with_dropout(family), checkpointing=True)
    rounded = rounding(lambda model: numbers(trained(model, checkpointing=False)), with_dropout(family))
    check_equal(numbers(learner), numbers(plain), rounded)
    assert not any(module.training for module in learner.model.modules())
    assert learner.model.state_dict().keys() == plain.model.state_dict().keys()
    calls = count(inner(learner.model))
    one = loss(learner.model, use_cache=False)
    assert calls == [1]
    one.backward()  # type: ignore[no-untyped-call]
    assert calls == [2]


def test_a_model_without_blocks_is_refused_by_its_type() -> None:
    with pytest.raises(ConfigError, match="ctrl has no blocks"):
        TorchLearner(ARCHITECTURES["ctrl"](), LearnerConfig(gradient_checkpointing=True))


@pytest.mark.parametrize("family", some_slow(["llama", "gpt2", "mixtral"], {"llama"}))
@pytest.mark.parametrize("autocast", some_slow(["none", "bfloat16"], {"bfloat16"}))
def test_adapters_and_autocast_go_on_working(family: str, autocast: Any) -> None:
    options: dict[str, Any] = {"lora": LoRA(rank=2), "autocast": autocast}
    plain, learner = (trained(with_dropout(family), checkpointing=on, **options) for on in (False, True))
    rounded = rounding(lambda model: numbers(trained(model, checkpointing=False, **options)), with_dropout(family))
    check_equal(numbers(learner), numbers(plain), rounded)
    assert learner.weights().keys() == with_dropout(family).state_dict().keys()


def test_a_copy_is_a_model_of_its_own() -> None:
    model = tiny_model()
    checkpoint_activations(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight.zero_()
    calls, others = count(inner(model)), count(inner(other))
    loss(other, use_cache=False).backward()  # type: ignore[no-untyped-call]
    assert (calls, others) == ([0], [2])
    assert float(other.model.layers[0].mlp.down_proj.weight.grad.abs().max()) == 0.0
    assert model.model.layers[0].mlp.down_proj.weight.grad is None


def test_what_needs_no_gradient_or_keeps_a_cache_is_computed_once() -> None:
    plain, model = tiny_model(), tiny_model()
    checkpoint_activations(model)
    checkpoint_activations(model)  # is not more than once
    calls = count(inner(model))
    with torch.no_grad():
        assert torch.equal(loss(model), loss(plain))
    assert calls == [1]
    for one in (plain, model):
        loss(one, use_cache=True).backward()  # type: ignore[no-untyped-call]
    assert calls == [2]
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
