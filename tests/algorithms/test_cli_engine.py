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


def test_a_model_that_is_drawn_from_wrongly_is_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_policy(tmp_path / "policy", ARCHITECTURES["gpt-neo"](), byte_tokenizer())
    assert main(["eval", "--policy", str(tmp_path / "policy"), "--questions", "2", "--context-length", "256"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "gpt_neo cannot be evaluated here: log-probabilities are" in told
    assert "evaluate another model" in told
