"""What the commands refuse about `--engine` before anything is loaded; with vLLM itself it is tested in tests/vllm."""

import importlib.util
from pathlib import Path

import pytest
from architectures import ARCHITECTURES
from model_toys import byte_tokenizer

from algorithms.checkpoint import save_policy
from algorithms.cli import main


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        status = main(words)
    except SystemExit as end:  # `arpo eval` checks its options where they are parsed
        status = end.code
    assert status == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["train", "eval", "entropy"])
def test_options_of_the_engine_that_contradict_others_are_refused(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "local does not take 'dtyp'" in said([command, "--policy", "x", "--engine-args", "dtyp=float32"], capsys)
    assert "would have no effect" in said([command, "--policy", "http://localhost:1", "--engine", "vllm"], capsys)


@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None and importlib.util.find_spec("vllm").origin is not None,
    reason="vLLM is installed",
)
def test_without_vllm_the_command_says_what_to_install(tiny_policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--policy", str(tiny_policy), "--engine", "vllm", "--dry-run"]) == 2
    assert "pip install 'arpo-envs[vllm]'" in " ".join(capsys.readouterr().err.split())


def of_length(folder: Path, name: str, length: int) -> Path:
    """Saves a model of the zoo whose positions are computed, so that it takes longer texts than it was made for."""
    model = ARCHITECTURES[name]()
    model.config.get_text_config().max_position_embeddings = length
    save_policy(folder, model, byte_tokenizer())
    return folder


SHORT = ["--env", "ARPO/SearchMini-v0", "--context-length", "512", "--action-tokens", "16"]


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_a_model_that_is_drawn_from_wrongly_is_not_trained(
    dry_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = of_length(tmp_path / "policy", "llama4-text", 1024)
    assert main(["train", "--policy", str(policy), *SHORT, *dry_run, "--output", str(tmp_path / "run")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "llama4_text cannot be trained here: log-probabilities are" in told
    assert "train another model" in told
    assert not (tmp_path / "run").exists(), "nothing is left of a run that has not begun"


@pytest.mark.turns("name", always=2)
@pytest.mark.parametrize("name", ["gemma3-text", "gemma3", "qwen2-5-vl", "llava"])
def test_the_text_model_is_found_in_one_that_also_sees(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    policy = of_length(tmp_path / "policy", name, 1024)
    assert main(["train", "--policy", str(policy), *SHORT, "--dry-run", "--output", str(tmp_path / "run")]) == 0
    assert "Everything fits together: sampler, learner and model agree within" in " ".join(capsys.readouterr().out.split())


def test_a_model_that_is_drawn_from_wrongly_is_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_policy(tmp_path / "policy", ARCHITECTURES["gpt-neo"](), byte_tokenizer())
    assert main(["eval", "--policy", str(tmp_path / "policy"), "--questions", "2", "--context-length", "256"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "gpt_neo cannot be evaluated here: log-probabilities are" in told
    assert "evaluate another model" in told
