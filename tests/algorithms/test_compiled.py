"""Compiled models: what `torch.compile` wraps is saved and trained under the names of the model itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import byte_tokenizer, tiny_model
from packing_toys import random_tree

from algorithms.advantages import Scores
from algorithms.advantages.soft import SoftAttribution
from algorithms.checkpoint import save_policy
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.models.compiled import plain
from algorithms.models.loading import load_policy


def compiled(module: Any) -> Any:
    return torch.compile(module, backend="eager")  # wraps as any other, and compiles nothing


def whole(model: Any) -> Any:
    return compiled(model)


def body(model: Any) -> Any:
    model.model = compiled(model.model)
    return model


def blocks(model: Any) -> Any:
    for i, layer in enumerate(model.model.layers):
        model.model.layers[i] = compiled(layer)
    return model


def everything(model: Any) -> Any:
    return compiled(body(blocks(model)))


WAYS = [whole, body, blocks, everything]


@pytest.mark.parametrize("way", WAYS)
def test_the_plain_model_is_the_one_that_was_compiled(way: Callable[[Any], Any]) -> None:
    model = tiny_model()
    before = dict(model.named_parameters())
    found = plain(way(model))
    assert found is model
    after = dict(found.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_a_model_that_is_not_compiled_and_what_is_no_module_stay_what_they_are() -> None:
    model, other = tiny_model(), object()
    modules = list(model.modules())
    assert plain(model) is model
    assert all(one is two for one, two in zip(modules, model.modules(), strict=True))
    assert plain(other) is other


@pytest.mark.parametrize("family", ["llama", "qwen3", "mixtral"])
@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_model_is_saved_as_the_same_bytes(family: str, way: Callable[[Any], Any], tmp_path: Path) -> None:
    save_policy(tmp_path / "plain", ARCHITECTURES[family](), byte_tokenizer())
    save_policy(tmp_path / "compiled", way(ARCHITECTURES[family]()), byte_tokenizer())
    one, other = (sorted((tmp_path / name).iterdir()) for name in ("plain", "compiled"))
    assert [file.name for file in one] == [file.name for file in other]
    assert all(left.read_bytes() == right.read_bytes() for left, right in zip(one, other, strict=True))
    load_policy(tmp_path / "compiled")


@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_model_is_trained_under_its_own_names(way: Callable[[Any], Any]) -> None:
    trees = [random_tree(seed, nodes=12) for seed in (1, 2)]
    states = []
    for model in (tiny_model(vocabulary=64), way(tiny_model(vocabulary=64))):
        learner = TorchLearner(model, LearnerConfig(learning_rate=1e-2), reference=True)
        learner.update(trees, SoftAttribution()(trees, Scores()), Scores(), ClipLoss(), "token")
        states.append((learner.weights(), learner.reference.state_dict()))
    for one, other in zip(*states, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
