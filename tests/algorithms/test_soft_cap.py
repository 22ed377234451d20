"""Scores with a soft cap are computed with it, though the version of `transformers` would leave it out without a word."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import byte_tokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gemma2.modeling_gemma2 import Gemma2PreTrainedModel

from algorithms.checkpoint import save_policy
from algorithms.learner import TorchLearner
from algorithms.models import own
from algorithms.models.attention import keep_soft_cap, usual_attention
from algorithms.models.loading import load_policy
from algorithms.models.sharded_loading import skeleton
from algorithms.policies.local import LocalPolicy

pytestmark = pytest.mark.numeric

TEXT = list(range(3, 60))


def logprobs(model: Any) -> torch.Tensor:
    return own.logprobs(model, TEXT, range(1, len(TEXT)))


@pytest.fixture(scope="module")
def right() -> torch.Tensor:
    """The log-probabilities of a tiny Gemma-2 with eager attention."""
    model = ARCHITECTURES["gemma2"]()
    model.set_attn_implementation("eager")
    return logprobs(model)


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same model as version 5.17 loads it: with SDPA, which takes the cap and ignores it."""

    def without_cap(*args: Any, softcap: float | None = None, **kwargs: Any) -> Any:
        return sdpa_attention_forward(*args, **kwargs)

    monkeypatch.setattr(Gemma2PreTrainedModel, "_supports_sdpa", True)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", without_cap)
    return ARCHITECTURES["gemma2"]()


def loaded(model: Any, folder: Path) -> Any:
    save_policy(folder, model, byte_tokenizer())
    return load_policy(folder)[0]


def learned(model: Any, folder: Path) -> Any:
    return TorchLearner(model).model


def sampled(model: Any, folder: Path) -> Any:
    policy = LocalPolicy(model, byte_tokenizer(), context_length=96, slots=4)
    asyncio.run(policy.close())
    return policy.model


def test_the_fault_is_there(careless: Any, right: torch.Tensor) -> None:
    assert careless.config._attn_implementation == "sdpa"
    assert (logprobs(careless) - right).abs().max() > 0.1


@pytest.mark.parametrize("way", [loaded, learned, sampled])
def test_every_way_to_a_model_keeps_the_cap(
    way: Callable[[Any, Path], Any], careless: Any, right: torch.Tensor, tmp_path: Path
) -> None:
    torch.testing.assert_close(logprobs(way(careless, tmp_path)), right)


def test_a_model_without_weights_keeps_the_cap(careless: Any, tmp_path: Path) -> None:
    save_policy(tmp_path, careless, byte_tokenizer())
    assert skeleton(tmp_path).config._attn_implementation == "eager"


def test_so_does_the_stand_in_for_flex_attention(careless: Any, right: torch.Tensor) -> None:
    careless.set_attn_implementation("flex_attention")
    with usual_attention(careless):
        torch.testing.assert_close(logprobs(careless), right)
    assert careless.config._attn_implementation == "flex_attention"


@pytest.mark.parametrize("name", ["gemma3-text", "llama"])
def test_others_stay_as_they_were_loaded(name: str) -> None:
    model = ARCHITECTURES[name]()
    keep_soft_cap(model)
    assert model.config._attn_implementation == "sdpa"
