"""Folders of models: one is loaded whole, or refused in words that help."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import byte_tokenizer, tiny_model
from safetensors.torch import load_file, save_file
from turns import some_slow

from algorithms.checkpoint import save_policy
from algorithms.learner import LoRA
from algorithms.learner.adapters import inject, merged_state
from algorithms.models.loading import load_policy
from arpo_envs import ConfigError

Weights = dict[str, torch.Tensor]

FAMILIES: dict[str, Callable[[], Any]] = {
    "untied llama": tiny_model,
    "tied llama": lambda: tiny_model(tie_word_embeddings=True),
    **{name: ARCHITECTURES[name] for name in ("gpt2", "gemma2", "mixtral", "qwen3-moe", "falcon-rope", "opt", "qwen2-5-vl")},
}


def saved(folder: Path, family: str, edit: Callable[[Weights], Weights] = dict, weights: Weights | None = None) -> Any:
    """Saves a tiny model, changes its file, and returns the model."""
    model = FAMILIES[family]()
    save_policy(folder, model, byte_tokenizer(), weights)
    file = folder / "model.safetensors"
    edited = edit(load_file(file))
    file.unlink()
    save_file(edited, file, metadata={"format": "pt"})
    return model


def same(one: Any, other: Any) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if part not in name}


def renamed(change: Callable[[str], str]) -> Callable[[Weights], Weights]:
    return lambda weights: {change(name): tensor for name, tensor in weights.items()}


def beside(**more: torch.Tensor) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name.replace("__", "."): tensor for name, tensor in more.items()}


# --- what is loaded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("as_state", [False, True])
def test_what_was_saved_is_loaded(family: str, as_state: bool, tmp_path: Path) -> None:
    model = saved(tmp_path, family, weights=FAMILIES[family]().state_dict() if as_state else None)
    assert same(load_policy(tmp_path)[0], model)


@pytest.mark.parametrize(
    ("family", "edit"),
    [
        (
            "gpt2",
            beside(transformer__h__0__attn__bias=torch.ones(1, 1, 8, 8), transformer__h__0__attn__masked_bias=torch.ones(1)),
        ),
        ("untied llama", beside(model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))),
        ("untied llama", beside(model__rotary_emb__inv_freq=torch.ones(4))),
        ("opt", beside(model__decoder__position_ids=torch.arange(8))),
        ("untied llama", renamed(lambda name: name.removeprefix("model."))),
        ("gpt2", renamed(lambda name: name.removeprefix("transformer."))),
        ("tied llama", lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()}),
        ("tied llama", renamed(lambda name: name.replace("model.embed_tokens", "lm_head"))),
    ],
)
def test_what_the_model_computes_itself_or_holds_twice_may_be_there_or_not(
    family: str, edit: Callable[[Weights], Weights], tmp_path: Path
) -> None:
    model = saved(tmp_path, family, edit)
    assert same(load_policy(tmp_path)[0], model)


def test_a_model_that_says_tied_and_is_not_is_loaded_and_saved_as_it_is(tmp_path: Path) -> None:
    model = saved(tmp_path / "one", "tied llama", lambda w: w | {"lm_head.weight": -w["model.embed_tokens.weight"]})
    loaded, tokenizer = load_policy(tmp_path / "one")
    assert torch.equal(loaded.lm_head.weight, -model.lm_head.weight)
    save_policy(tmp_path / "two", loaded, tokenizer)
    assert same(load_policy(tmp_path / "two")[0], loaded)


def test_a_model_with_adapters_is_saved_merged(tmp_path: Path) -> None:
    model = tiny_model()
    inject(model, LoRA(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    save_policy(tmp_path, model, byte_tokenizer())
    loaded = load_policy(tmp_path)[0].state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in merged_state(model).items())
    assert not torch.equal(loaded["model.layers.0.mlp.up_proj.weight"], tiny_model().model.layers[0].mlp.up_proj.weight)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "edit", "words"),
    [
        ("untied llama", without("layers.1."), r"9 are missing \(model\.layers\.1\.input_layernorm\.weight, .*, …\)\. What"),
        ("untied llama", without("lm_head"), r"1 are missing \(lm_head\.weight\)"),
        ("untied llama", without("embed_tokens"), r"1 are missing \(model\.embed_tokens\.weight\)"),
        ("tied llama", without("embed_tokens"), r"2 are missing \(lm_head\.weight, model\.embed_tokens\.weight\)"),
        ("gpt2", without("wte"), "2 are missing"),
        ("gpt2", without("h.0.ln_1.bias"), "1 are missing"),
        ("mixtral", without("layers.1.block"), r"3 are missing \(model\.layers\.1\.mlp\."),
        ("mixtral", without("experts.1.w1."), "cannot be loaded"),
        ("qwen3-moe", without("experts.1."), r"4 have another shape \(model\.layers\.0\.mlp\.experts"),
        (
            "untied llama",
            beside(model__layers__2__norm__weight=torch.ones(4)),
            r"1 are left over \(model\.layers\.2\.norm\.weight",
        ),
        ("untied llama", beside(model__layers__0__mlp__up_proj__weight_scale=torch.ones(1)), "weight_scale"),
        ("gpt2", beside(transformer__h__0__mlp__c_fc__bias__scale=torch.ones(1)), "1 are left over"),
        (
            "untied llama",
            lambda w: w | {"model.norm.weight": torch.ones(31)},
            r"1 have another shape \(model\.norm\.weight is 31, not 32\)",
        ),
        ("untied llama", lambda w: w | {"lm_head.weight": torch.ones(265, 16)}, "lm_head.weight is 265×16, not 265×32"),
        ("untied llama", lambda _: {}, "21 are missing"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(
    family: str, edit: Callable[[Weights], Weights], words: str, tmp_path: Path
) -> None:
    saved(tmp_path, family, edit)
    with pytest.raises(ConfigError, match=words) as raised:
        load_policy(tmp_path)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    "family", some_slow([name for name in FAMILIES if name != "qwen2-5-vl"], {"untied llama", "tied llama"})
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name: f"_orig_mod.{name}", r"The names contain '_orig_mod': it was saved from a compiled model"),
        (lambda name: name.replace(".", "._orig_mod.", 1), r"The names contain '_orig_mod'"),
        (lambda name: f"module.{name}", r"The names begin with 'module\.': .* wrapped for several processes"),
        (lambda name: f"base_model.model.{name}", r"The names begin with 'base_model\.model\.': .* wrapped by peft"),
        (lambda name: f"policy.{name}", r"The names begin with 'policy\.'\. Save"),
    ],
)
def test_a_prefix_is_recognised(family: str, change: Callable[[str], str], words: str, tmp_path: Path) -> None:
    saved(tmp_path, family, renamed(lambda name: name if name == "lm_head.weight" and "begin" not in words else change(name)))
    with pytest.raises(ConfigError, match=words):
        load_policy(tmp_path)


def test_with_a_prefix_before_names_that_transformers_translates_a_folder_is_refused_without_a_hint(tmp_path: Path) -> None:
    saved(tmp_path, "qwen2-5-vl", renamed(lambda name: f"module.{name}"))
    with pytest.raises(ConfigError, match=r"are missing .* are left over \(module\..* Save the whole model again"):
        load_policy(tmp_path)


def test_a_prefix_that_is_not_there_is_recognised(tmp_path: Path) -> None:
    saved(tmp_path, "opt", renamed(lambda name: name.removeprefix("model.decoder.")))
    with pytest.raises(ConfigError, match=r"The names lack 'model\.decoder\.'"):
        load_policy(tmp_path)


def test_names_that_only_partly_fit_without_a_prefix_are_not_said_to(tmp_path: Path) -> None:
    saved(tmp_path, "untied llama", lambda w: renamed(lambda name: f"module.{name}")(w) | {"module.score": torch.ones(1)})
    with pytest.raises(ConfigError, match=r"21 are missing .* 22 are left over .* Save the whole model"):
        load_policy(tmp_path)


# --- broken folders --------------------------------------------------------------------------------------------------


def sharded(folder: Path) -> list[Path]:
    model = tiny_model()
    save_policy(folder, model, byte_tokenizer())
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    return sorted(folder.glob("model-*.safetensors"))


def test_shards_are_loaded(tmp_path: Path) -> None:
    assert len(sharded(tmp_path)) > 2
    assert same(load_policy(tmp_path)[0], tiny_model())


@pytest.mark.parametrize("damage", ["gone", "cut", "garbled", "another's"])
@pytest.mark.parametrize("shards", [False, True])
def test_a_broken_file_is_refused(damage: str, shards: bool, tmp_path: Path) -> None:
    if shards:
        file = sharded(tmp_path)[1]
    else:
        saved(tmp_path, "untied llama")
        file = tmp_path / "model.safetensors"
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "garbled":
        file.write_bytes(b"\xff" * 5000)
    else:
        file.unlink()
        save_file({"other": torch.ones(3)}, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="are missing" if damage == "another's" else r"'llama'.* Check that all of its files"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "sprout"}, "of the type 'sprout'"),
        ({"model_type": "clip_vision_model"}, "of the type 'clip_vision_model': Unrecognized configuration class"),
        ({"model_type": "llama", "hidden_size": "wide"}, "of the type 'llama'"),
        ({}, "of the type 'unknown'"),
        ([], "of the type 'unknown'"),
        ("{", "of the type 'unknown'"),
    ],
)
def test_a_configuration_of_no_model_is_refused(config: Any, words: str, tmp_path: Path) -> None:
    saved(tmp_path, "untied llama")
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_policy(tmp_path)


def test_weights_of_another_size_than_the_configuration_says_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "small", "untied llama")
    save_policy(tmp_path / "large", tiny_model(hidden_size=64), byte_tokenizer())
    shutil.copyfile(tmp_path / "large" / "config.json", tmp_path / "small" / "config.json")
    with pytest.raises(ConfigError, match=r"21 have another shape .* Save the whole model again"):
        load_policy(tmp_path / "small")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_broken_tokenizer_is_refused(text: str, tmp_path: Path) -> None:
    saved(tmp_path, "untied llama")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="has no tokenizer"):
        load_policy(tmp_path)
