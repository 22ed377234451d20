"""Model folders for other engines: the same model, untied, written beside and then put in place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from rounding import check_equal, rounding
from safetensors import safe_open

from algorithms.checkpoint import save_policy
from algorithms.models.loading import load_policy
from algorithms.policies.export import export_weights, is_tied, model_config
from arpo_envs import ConfigError

pytestmark = pytest.mark.numeric


def saved(folder: Path, family: str = "llama", **options: Any) -> tuple[Path, Any]:
    model = tiny_model(family, **options)
    save_policy(folder, model, byte_tokenizer())
    return folder, model


@torch.no_grad()
def logits(model: Any) -> dict[str, torch.Tensor]:
    return {"logits": model(torch.arange(20)[None]).logits}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2"])
def test_the_exported_model_is_the_same_and_untied(family: str, tied: bool, tmp_path: Path) -> None:
    source, model = saved(tmp_path / "source", family, tie_word_embeddings=tied)
    other = tiny_model(family, seed=3, tie_word_embeddings=tied)
    assert is_tied(model_config(source)) == tied
    for weights, wanted in ((None, model), (other.state_dict(), other)):
        folder = export_weights(source, weights, tmp_path / "exported")
        assert not is_tied(model_config(folder))
        loaded, tokenizer = load_policy(folder)
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in wanted.state_dict().items())
        check_equal(logits(loaded), logits(wanted), rounding(logits, wanted))
        assert loaded.lm_head.weight.data_ptr() != loaded.get_input_embeddings().weight.data_ptr()
        assert tokenizer.encode("count") == byte_tokenizer().encode("count")


def test_a_nested_configuration_is_untied_too(tmp_path: Path) -> None:
    assert is_tied({"text_config": {"tie_word_embeddings": True}})
    source, _ = saved(tmp_path / "source", tie_word_embeddings=True)
    file = source / "config.json"
    file.write_text(file.read_text(encoding="utf-8").replace("{", '{"text_config": {"tie_word_embeddings": true},', 1))
    config = model_config(export_weights(source, None, tmp_path / "exported"))
    assert (config["tie_word_embeddings"], config["text_config"]["tie_word_embeddings"]) == (False, False)


def test_precision_is_as_asked(tmp_path: Path) -> None:
    source, model = saved(tmp_path / "source")
    folder = export_weights(source, model.state_dict(), tmp_path / "exported", dtype=torch.bfloat16)
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118  # no mapping
    assert next(model.parameters()).dtype == torch.float32


def test_a_file_that_is_still_mapped_keeps_its_contents(tmp_path: Path) -> None:
    source, model = saved(tmp_path / "source")
    folder = export_weights(source, model.state_dict(), tmp_path / "exported")
    with safe_open(folder / "model.safetensors", framework="pt") as before:
        export_weights(source, tiny_model(seed=4).state_dict(), folder)
        assert torch.equal(before.get_tensor("lm_head.weight"), model.lm_head.weight)
    assert sorted(path.name for path in folder.iterdir() if "safetensors" in path.name) == ["model.safetensors"]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    source, model = saved(tmp_path / "source")
    with pytest.raises(ConfigError, match="not in"):
        export_weights(source, {**model.state_dict(), "model.layers.0.mlp.experts.joined": torch.zeros(1)}, tmp_path / "out")
    with pytest.raises(ConfigError, match="it has no config"):
        export_weights(tmp_path, None, tmp_path / "out")
    (source / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="no weights"):
        export_weights(source, None, tmp_path / "out")
    tied, _ = saved(tmp_path / "tied", tie_word_embeddings=True)
    with pytest.raises(ConfigError, match="embedding was not found"):
        export_weights(tied, {"model.norm.weight": torch.zeros(1)}, tmp_path / "out")
