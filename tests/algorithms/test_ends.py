"""Ids that end a text: the union of all that a model's files list, and kept by what a run saves."""

import json
from pathlib import Path
from typing import Any

import pytest
from chat_toys import family_tokenizer
from model_toys import byte_tokenizer, tiny_model

from algorithms.checkpoint import save_policy
from algorithms.cli import main
from algorithms.cli.ends import end_ids, keep_ends
from algorithms.cli.parts import renderer_for
from algorithms.models.loading import load_policy
from algorithms.rendering import TextRenderer
from algorithms.rendering.chat import ChatRenderer
from arpo_envs.errors import ConfigError

EOS = 263
"""Of `byte_tokenizer`."""


def folder_with(path: Path, **files: Any) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({}, ()),
        ({"config": {"eos_token_id": [1, 106]}}, (1, 106)),
        ({"config": {"eos_token_id": 106}}, (106,)),
        ({"config": {"text_config": {"eos_token_id": [1, 106]}}}, (1, 106)),
        ({"config": {"eos_token_id": 7, "text_config": {"eos_token_id": [7, 8]}}}, (7, 8)),
        ({"generation_config": {"eos_token_id": [9, EOS]}, "config": {"eos_token_id": [8]}}, (9, 8)),
        ({"generation_config": {"eos_token_id": None}, "config": {"eos_token_id": None, "text_config": None}}, ()),
        ({"config": {"eos_token_id": [-1, 265, 10**6, True, "</s>", 264]}}, (264,)),
    ],
)
def test_all_lists_count_and_the_vocabulary_decides(files: Any, ends: tuple[int, ...], tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **files)
    assert end_ids(folder, byte_tokenizer()) == (EOS, *ends)
    assert renderer_for(folder, byte_tokenizer()).stop_tokens == (EOS, *ends)


@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_a_chat_model_ends_where_its_files_say_so(dialect: str, tmp_path: Path) -> None:
    tokenizer = family_tokenizer("phi3")
    end, eos, other = tokenizer.convert_tokens_to_ids(["<|end|>", "<|endoftext|>", "<|assistant|>"])
    some = renderer_for(folder_with(tmp_path, config={"text_config": {"eos_token_id": [eos, other]}}), tokenizer, dialect)
    assert isinstance(some, ChatRenderer)
    assert some.stop_tokens == (end, eos, other)


def test_an_embedded_policys_folder_too(tmp_path: Path) -> None:
    from algorithms.models.built_in import MARK

    folder = folder_with(tmp_path, config={"eos_token_id": [EOS, 5]})
    (folder / MARK).write_text('{"with_instructions": false}', encoding="utf-8")
    some = renderer_for(folder, byte_tokenizer())
    assert type(some) is TextRenderer
    assert some.stop_tokens == (EOS, 5)


def test_a_base_models_list_counts_for_adapters_and_where_there_is_no_list_of_ones_own(tmp_path: Path) -> None:
    base = folder_with(tmp_path / "base", generation_config={"eos_token_id": [5, 6]}, config={"_name_or_path": str(tmp_path)})
    adapter = folder_with(tmp_path / "adapter", adapter_config={"base_model_name_or_path": str(base)})
    assert end_ids(adapter, byte_tokenizer()) == (EOS, 5, 6)
    bare = folder_with(tmp_path / "bare", config={"_name_or_path": str(base), "eos_token_id": 7})
    assert end_ids(bare, byte_tokenizer()) == (EOS, 7, 5, 6)
    own = folder_with(tmp_path / "own", config={"_name_or_path": str(base)}, generation_config={"eos_token_id": 8})
    assert end_ids(own, byte_tokenizer()) == (EOS, 8)
    itself = folder_with(tmp_path / "itself", config={"_name_or_path": str(tmp_path / "itself"), "eos_token_id": 9})
    assert end_ids(itself, byte_tokenizer()) == (EOS, 9)
    away = folder_with(tmp_path / "away", config={"_name_or_path": "/no/such/folder"}, adapter_config={})
    assert end_ids(away, byte_tokenizer()) == (EOS,)


def test_a_base_model_is_looked_up_in_the_hubs_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    adapter = folder_with(tmp_path / "adapter", adapter_config={"base_model_name_or_path": "some/model"})
    assert end_ids(adapter, byte_tokenizer()) == (EOS,)
    repository = tmp_path / "hub" / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123", encoding="utf-8")
    (repository / "snapshots").mkdir()
    folder_with(repository / "snapshots" / "abc123", generation_config={"eos_token_id": [3, 4]})
    assert end_ids(adapter, byte_tokenizer()) == (EOS, 3, 4)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for text in ("{", "[1]"):
        (tmp_path / "generation_config.json").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"generation_config\.json is not a JSON object"):
            end_ids(tmp_path, byte_tokenizer())


def test_a_saved_policy_keeps_its_ends(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    save_policy(tmp_path / "start", tiny_model(), tokenizer)
    config = json.loads((tmp_path / "start" / "config.json").read_text(encoding="utf-8"))
    folder_with(tmp_path / "start", config=config | {"eos_token_id": [EOS, 264]})
    (tmp_path / "start" / "generation_config.json").unlink()
    model, tokenizer = load_policy(tmp_path / "start")
    save_policy(tmp_path / "again", model, tokenizer)
    assert end_ids(tmp_path / "again", tokenizer) == end_ids(tmp_path / "start", tokenizer) == (EOS, 264)
    keep_ends(model, (EOS, 5, 6))
    save_policy(tmp_path / "kept", model, tokenizer)
    assert json.loads((tmp_path / "kept" / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] == [EOS, 5, 6]
    keep_ends(object(), (EOS,))


@pytest.mark.usefixtures("wide_terminal")
def test_a_run_keeps_the_ends_of_the_base_model(tmp_path: Path) -> None:
    """Its policy, moved anywhere, is evaluated with the stops it was trained with."""
    tokenizer = byte_tokenizer()
    base = folder_with(tmp_path / "base", generation_config={"eos_token_id": [EOS, 264]})
    save_policy(tmp_path / "start", tiny_model(max_position_embeddings=2048), tokenizer)
    config = json.loads((tmp_path / "start" / "config.json").read_text(encoding="utf-8"))
    folder_with(tmp_path / "start", config=config | {"eos_token_id": None, "_name_or_path": str(base)})
    (tmp_path / "start" / "generation_config.json").unlink()
    words = ["train", "--policy", str(tmp_path / "start"), "--output", str(tmp_path / "run"), "--steps", "1", "--prompts", "2"]
    sizes = ["--rollouts", "2", "--eval-questions", "1", "--action-tokens", "8", "--context-length", "1536"]
    assert main([*words, *sizes, "--env-args", "cities_per_country=4"]) == 0
    policy = (tmp_path / "run" / "policy").resolve()
    assert set(renderer_for(policy, tokenizer).stop_tokens) == {EOS, 264}
