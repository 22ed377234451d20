"""`arpo train` with adapters, minibatches and a schedule; a run that diverges is saved."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_toys import byte_tokenizer, tiny_model

from algorithms.checkpoint import save_policy
from algorithms.cli import main
from algorithms.cli.config import TrainConfig
from algorithms.cli.parts import assemble, learner_config
from algorithms.learner import LearnerConfig, LoRA, Schedule
from algorithms.learner.adapters import merged_state
from algorithms.losses.clip import ClipLoss
from algorithms.models.loading import load_policy
from arpo_envs.errors import ConfigError

SIZES = ["--action-tokens", "12", "--context-length", "1024", "--prompts", "2", "--rollouts", "4", "--eval-questions", "1",
         "--env-args", "cities_per_country=4", "--probe", "2", "--learning-rate", "0.01"]  # fmt: skip
OPTIONS = ["--lora", "2", "--entropy-bonus", "0.1", "--minibatches", "2", "--epochs", "2", "--warmup", "2", "--decay", "linear"]

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    tokenizer = byte_tokenizer()
    path = tmp_path_factory.mktemp("policy")
    save_policy(path, tiny_model(vocabulary=len(tokenizer), max_position_embeddings=1024), tokenizer)
    return path


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_policy(run / "policy")[0].state_dict())


@pytest.mark.slow
def test_adapters_are_trained_merged_saved_and_resumed(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ["train", "--policy", str(folder), *SIZES, *OPTIONS, "--steps", "2", "--checkpoint-every", "1"]
    assert main([*words, "--output", str(whole)]) == 0
    rates = [line["learning_rate"] for line in lines(whole)]
    assert rates == pytest.approx([0.01 * (0.5 + 1 + 1 + 5 / 6) / 4, 0.01 * (4 + 3 + 2 + 1) / 6 / 4])
    start, end = load_policy(folder)[0].state_dict(), weights(whole)
    assert end.keys() == start.keys(), "the policy is an ordinary folder"
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved
    assert not any("embed" in name or "norm" in name or "lm_head" in name for name in moved)

    assert main([*words, "--output", str(parts)]) == 0
    newest = parts / "checkpoints" / "step-000002"
    for file in sorted(newest.rglob("*"), reverse=True):  # as if it had been killed after the first step
        file.unlink() if file.is_file() else file.rmdir()
    newest.rmdir()
    (parts / "after.json").unlink()
    (parts / "summary.json").unlink()
    assert main(["train", "--resume", str(parts)]) == 0
    again = weights(parts)
    assert all(torch.equal(end[name], again[name]) for name in end), "adapters, optimizer and schedule went on where they were"


@pytest.mark.slow
def test_a_run_that_diverges_is_saved_as_it_was(folder, tmp_path, monkeypatch, capsys):
    run, real = tmp_path / "run", ClipLoss.__call__

    def broken(self, inputs):
        output = real(self, inputs)
        return type(output)(output.loss_BT * float("inf"), output.metrics)

    monkeypatch.setattr(ClipLoss, "__call__", broken)
    words = ["train", "--policy", str(folder), *SIZES, "--entropy-bonus", "0.1", "--steps", "9", "--output", str(run)]
    assert main(words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "5 gradients in a row were not finite" in told
    assert "saved as step 4" in told
    assert [line["skipped_updates"] for line in lines(run)] == [1.0] * 4
    start, end = load_policy(folder)[0].state_dict(), weights(run)
    assert all(torch.equal(start[name], end[name]) for name in start)


def test_the_options_reach_the_learner(folder, tmp_path):
    how = LearnerConfig(lora=LoRA(rank=3, alpha=6), epochs=2, minibatches=3, schedule=Schedule(warmup=4, decay="cosine"))
    config = TrainConfig(policy=str(folder), output=tmp_path, algorithm="ppo", steps=10, learner=how).resolved()
    learner = asyncio.run(assemble(config, folder)).learner
    assert learner.config == replace(how, schedule=replace(how.schedule, steps=60))
    assert learner.value_head is not None
    assert merged_state(learner.model).keys() == load_policy(folder)[0].state_dict().keys()


def test_a_schedule_without_room_is_refused_before_the_run(folder, tmp_path):
    words = ["train", "--policy", str(folder), *SIZES, "--warmup", "5", "--decay", "linear", "--steps", "5"]
    assert main([*words, "--output", str(tmp_path / "run"), "--dry-run"]) == 2
    with pytest.raises(ConfigError, match="warm-up of 5"):
        learner_config(TrainConfig(steps=5, learner=LearnerConfig(schedule=Schedule(warmup=5, decay="linear"))))


@pytest.mark.parametrize("algorithm", ["rloo", "tree_rl"])
def test_a_loss_without_a_ratio_is_refused_several_steps_before_the_run(algorithm, folder, tmp_path, capsys):
    words = ["train", "--policy", str(folder), "--algorithm", algorithm, "--epochs", "2", "--dry-run"]
    assert main([*words, "--output", str(tmp_path / "run")]) == 2
    assert "epochs = 2 and minibatches = 1 take 2" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--lora 0", "rank and alpha of at least 1"),
        ("--epochs 0", "epochs must be at least 1"),
        ("--minibatches 3", "2 prompts cannot be divided into 3 minibatches"),
        ("--entropy-bonus -1", "entropy_bonus must be at least 0"),
        ("--learning-rate nan", "learning_rate must be at least 0 and finite"),
        ("--weight-decay inf", "weight_decay must be at least 0 and finite"),
        ("--gradient-clip 0", "gradient_clip must be above 0"),
        ("--adam-epsilon 0", "epsilon must be above 0"),
        ("--importance-cap 0.5", "importance_cap must be at least 1"),
        ("--context-length 0", "context_length must be at least 1"),
        ("--threads 0", "threads must be at least 1"),
        ("--temperature nan", "temperature must be above 0"),
        ("--attention flex_attention", "FlexAttention has no backward pass on cpu"),
        ("--device banana", "banana"),
    ],
)
def test_numbers_the_learner_cannot_use_are_found_by_a_dry_run(words, told, folder, tmp_path, capsys):
    arguments = ["train", "--policy", str(folder), *SIZES, *words.split(), "--output", str(tmp_path / "run"), "--dry-run"]
    try:
        status = main(arguments)
    except SystemExit as exit:  # what tyro finds by itself
        status = exit.code
    assert status == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_run_keeps_its_number_of_threads(folder, tmp_path):
    given = TrainConfig(policy=str(folder), output=tmp_path, threads=3).resolved()
    left_out = TrainConfig(policy=str(folder), output=tmp_path).resolved()
    assert (given.threads, left_out.threads) == (3, torch.get_num_threads())
    given.save(tmp_path)
    assert TrainConfig.load(tmp_path).resolved().threads == 3
