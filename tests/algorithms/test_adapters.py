"""Adapters: what is merged is what was trained, in every kind of layer, or the layer is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import byte_tokenizer, tiny_model
from rounding import Numbers, check_equal, rounding
from transformers import BartConfig, BartForCausalLM

from algorithms.checkpoint import save_policy
from algorithms.learner import LearnerConfig, LoRA, TorchLearner
from algorithms.learner.adapters import adapter_state, base_name, has_adapters, inject, merged_state, without_adapters
from algorithms.models.sharded_loading import skeleton
from arpo_envs import ConfigError

pytestmark = pytest.mark.numeric

IDS = torch.arange(12)[None]


@torch.no_grad()
def logits(model: Any) -> Numbers:
    return {"logits": model(input_ids=IDS).logits}


@torch.no_grad()
def adapted(model: Any, targets: Any) -> Any:
    """Returns a model whose adapters are as if they had learned something."""
    inject(model, LoRA(rank=2, targets=targets))
    draws = torch.Generator().manual_seed(0)
    for tensor in adapter_state(model).values():
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=draws))
    return model


def untied(family: str) -> Any:
    model = tiny_model(family, tie_word_embeddings=False)
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight
    return model


MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (lambda: untied("llama"), "all-linear"),
    "head": (lambda: untied("llama"), ("lm_head",)),
    "embedding": (lambda: untied("llama"), ("embed_tokens",)),
    "both of cohere": (lambda: untied("cohere"), ("embed_tokens", "lm_head")),
    "transposed": (lambda: untied("gpt2"), "all-linear"),
    "transposed and tables": (lambda: untied("gpt2"), ("c_attn", "c_fc", "wte", "wpe", "lm_head")),
    "tied, but not the tied layer": (lambda: tiny_model("gpt2", tie_word_embeddings=True), ("c_attn", "wpe")),
    **{name: (ARCHITECTURES[name], "all-linear") for name in ("mixtral", "qwen3-moe", "gpt-oss", "falcon-rope", "gemma3-text")},
    "router": (ARCHITECTURES["mixtral"], ("gate",)),
}


@pytest.mark.turns("name", always=5)
@pytest.mark.parametrize("name", MODELS)
def test_merged_weights_are_what_the_adapters_are(name: str) -> None:
    make, targets = MODELS[name]
    model, plain = adapted(make(), targets), make()
    before = logits(plain)
    with without_adapters(model):
        assert torch.equal(logits(model)["logits"], before["logits"])
    merged = merged_state(model)
    assert merged.keys() == plain.state_dict().keys()
    plain.load_state_dict(merged)
    wanted = logits(model)
    assert (wanted["logits"] - before["logits"]).abs().max() > 0.1
    check_equal(logits(plain), wanted, rounding(lambda some: logits(adapted(some, targets)), make()))


SHARED = r"LoRA would adapt {}, which is tied: {} is the same weight"
REFUSED: dict[str, tuple[Any, Any, str]] = {
    "tied head": (
        lambda: tiny_model(tie_word_embeddings=True),
        ("lm_head",),
        SHARED.format("lm_head.weight", "model.embed_tokens.weight") + ".* tie_word_embeddings=False",
    ),
    "tied embedding": (
        lambda: tiny_model("gpt2", tie_word_embeddings=True),
        ("c_attn", "wte"),
        SHARED.format("transformer.wte.weight", "lm_head.weight"),
    ),
    "tied under other names": (ARCHITECTURES["biogpt"], ("output_projection",), "biogpt.embed_tokens.weight is the same"),
    "layers that several blocks share": (ARCHITECTURES["zamba2"], "all-linear", "shared_transformer.* is the same weight"),
    "a layer that gives more than a product": (ARCHITECTURES["llama4-text"], "all-linear", "Llama4Router does not simply"),
    "positions that are counted": (ARCHITECTURES["opt"], ("embed_positions",), "OPTLearnedPositionalEmbedding does not"),
    "positions from an offset": (
        lambda: BartForCausalLM(BartConfig(vocab_size=64, d_model=32, decoder_layers=1, decoder_ffn_dim=32)),
        ("embed_positions",),
        "BartLearnedPositionalEmbedding does not",
    ),
    "no such layer": (tiny_model, ("nope",), r"LoRA cannot adapt \('nope',\) in a llama: Target modules"),
    "no such word": (tiny_model, "all_linear", "LoRA cannot adapt 'all_linear' in a llama"),
    "a norm": (tiny_model, ("input_layernorm",), "in a llama: Target module LlamaRMSNorm"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_merged_is_refused_and_nothing_has_changed(what: str) -> None:
    make, targets, words = REFUSED[what]
    model = make()
    before, modules, attributes = dict(model.named_parameters()), list(model.modules()), vars(model).keys() | set()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError, match=words):
        TorchLearner(model, LearnerConfig(lora=LoRA(targets=targets)))
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] and after[name].requires_grad for name in before)
    assert all(one is two for one, two in zip(modules, model.modules(), strict=True))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert vars(model).keys() == attributes


def test_a_weight_is_shared_if_it_is_the_same_memory_whatever_holds_it() -> None:
    model = tiny_model()
    model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.data)
    with pytest.raises(ConfigError, match=SHARED.format("lm_head.weight", "model.embed_tokens.weight")):
        inject(model, LoRA(targets=("lm_head",)))
    other = tiny_model()
    other.model.layers[1].mlp = other.model.layers[0].mlp
    with pytest.raises(ConfigError, match=r"layers\.0\.mlp\..* is the same weight|layers\.1\.mlp\..* is the same weight"):
        inject(other, LoRA())


def test_a_model_has_adapters_once() -> None:
    model = tiny_model()
    assert not has_adapters(model)
    inject(model, LoRA(rank=2))
    assert has_adapters(model)
    names = list(model.state_dict())
    with pytest.raises(ConfigError, match="already has adapters"):
        inject(model, LoRA(rank=2))
    assert list(model.state_dict()) == names


def test_adapters_begin_the_same_every_time_and_leave_no_trace_in_the_global_state() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, other = tiny_model(), tiny_model()
    torch.manual_seed(1)
    inject(one, LoRA(rank=2))
    assert torch.equal(torch.rand(3), expected)
    inject(other, LoRA(rank=2))
    first, second = adapter_state(one), adapter_state(copy.deepcopy(other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def bare(model: Any, tmp_path: Path) -> Any:
    """Returns the skeleton of a model."""
    save_policy(tmp_path, model, byte_tokenizer())
    return skeleton(tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_adapters_of_a_model_without_weights_begin_the_same(name: str, tmp_path: Path) -> None:
    make, targets = MODELS[name]
    whole = make()
    model = bare(whole, tmp_path)
    names = {id(it): name for name, it in model.named_parameters()}
    for one in (whole, model):
        inject(one, LoRA(rank=2, targets=targets))
    first, second = adapter_state(whole), adapter_state(model)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    own = {name: it for name, it in model.named_parameters() if name not in second}
    assert {names[id(it)] for it in own.values()} == {base_name(name) for name in own} == {*names.values()}
    assert all(it.is_meta and not it.requires_grad for it in own.values())


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_merged_is_refused_without_weights_too(what: str, tmp_path: Path) -> None:
    make, targets, words = REFUSED[what]
    model = bare(make(), tmp_path)
    before = dict(model.named_parameters())
    with pytest.raises(ConfigError, match=words):
        inject(model, LoRA(targets=targets))
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] and after[name].requires_grad for name in before)
