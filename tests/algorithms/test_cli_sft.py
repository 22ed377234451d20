"""`arpo sft` from the outside: what it leaves behind, what it refuses, and that it goes on exactly where it was killed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_once import made_once
from model_toys import stored_state
from test_cli_train import exit_status, said, weights

from algorithms.cli import main, sft
from algorithms.cli.alone import alone
from algorithms.cli.sft_config import GROUPS, OPTIONS, SftConfig
from algorithms.learner import SupervisedLearner
from algorithms.models.demonstrations.lesson import load_lessons
from algorithms.tracking.trees import read_trees

EXPERT = ["--env", "ARPO/SearchMini-v0", "--env-args", "cities_per_country=4"]
SHORT = ["--steps", "8", "--batch", "4", "--learning-rate", "3e-3", "--checkpoint-every", "2"]

pytestmark = pytest.mark.usefixtures("wide_terminal")


def words(policy: Path, run: Path, *more: str) -> list[str]:
    return ["sft", "--policy", str(policy), "--output", str(run), *SHORT, *more]


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def taught(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""

    def teach(run: Path) -> None:
        assert main(words(tiny_policy, run, *EXPERT, "--episodes", "30")) == 0

    return made_once(tmp_path_factory, "taught", teach)


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_equal_runs(left: Path, right: Path, steps: int = 8) -> None:
    for name in ("policy/model.safetensors", "policy/embedded.json", "metrics.jsonl", "summary.json", "demonstrations.npz"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    one, other = (stored_state(run / f"checkpoints/step-{steps:06d}/learner") for run in (left, right))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- what it leaves behind ---------------------------------------------------------------------------------------------


def test_a_run_learns_its_demonstrations_and_says_how_well(taught: Path, tiny_policy: Path) -> None:
    found = record(taught)
    assert found["learned"] + found["held_out"] == 30
    assert found["held_out_nats_after"] < found["held_out_nats_before"]
    assert [row["step"] for row in rows(taught)] == list(range(8))
    assert rows(taught)[-1]["loss"] < rows(taught)[0]["loss"]
    assert weights(taught).keys() == weights_of(tiny_policy).keys()


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


SMALL = ["--env-args", "cities_per_country=4", "--prompts", "2", "--rollouts", "4", "--eval-questions", "2", "--steps", "1"]


def test_arpo_train_can_begin_with_its_folder(taught: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["train", "--policy", str(taught), "--output", str(tmp_path / "run"), *SMALL, "--dry-run"]) == 0
    text = said(capsys)
    assert "Everything fits together" in text
    assert '"action_tokens": 16' in text, "it is still an embedded policy"


@pytest.mark.slow
def test_arpo_train_and_arpo_eval_begin_with_its_folder(taught: Path, tmp_path: Path) -> None:
    assert main(["train", "--policy", str(taught), "--output", str(tmp_path / "run"), *SMALL]) == 0
    assert len(list(read_trees(tmp_path / "run" / "trees.jsonl.zst"))) == 2
    asked = ["--env", "ARPO/SearchMini-v0", "--args", "cities_per_country=4", "--questions", "2"]
    assert main(["eval", "--policy", str(taught), *asked]) == 0


def test_a_file_of_conversations_is_learned_without_its_malformed_rows(tiny_policy: Path, tmp_path: Path, capsys: Any) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    answers = [{"role": "assistant", "content": f"<answer>{name}</answer>"} for name in ("Paris", "Lyon")]
    file = tmp_path / "some.jsonl"
    lines = [json.dumps({"messages": [*question, answer]}) for answer in answers]
    file.write_text("\n".join([*lines, "{"]), encoding="utf-8")
    run = tmp_path / "run"
    assert exit_status(words(tiny_policy, run, "--data", str(file))) == 2
    assert f"{file}, line 3: it is not JSON" in said(capsys)
    assert not run.exists()
    assert main(words(tiny_policy, run, "--data", str(file), "--skip-malformed")) == 0
    assert f"left out: {file}, line 3: it is not JSON" in said(capsys)
    assert record(run) == {"learned": 2, "held_out": 0}, "there is only one question, so that none can be held out"
    assert rows(run)[0]["sharing_ratio"] >= 1.0


def test_the_best_rollouts_of_a_run_are_learned_as_they_were_sampled(finished: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    assert main(words(finished, run, "--run", str(finished), "--min-reward", "-1", "--held-out", "0")) == 0
    trees = list(read_trees(finished / "trees.jsonl.zst"))
    paths = [tree.tokens(leaf) for tree in trees for leaf in tree.leaves()]
    assert [one.tokens.tolist() for one in load_lessons(run / sft.LESSONS)] == paths
    assert exit_status(words(finished, tmp_path / "no", "--run", str(finished), "--min-reward", "99")) == 2
    assert "Lower --min-reward" in said(capsys)


# --- killed and resumed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 3, 4])
def test_a_killed_run_goes_on_to_the_same_bytes(
    step: int, taught: Path, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    learn, seen = SupervisedLearner.learn, []

    def killed(self: SupervisedLearner, trees: Any) -> Any:
        seen.append(trees)
        if len(seen) > step:
            self.model.get_input_embeddings().weight.data += 1.0  # in the middle of an update
            signal.raise_signal(signal.SIGTERM)
        return learn(self, trees)

    run = tmp_path / "run"
    monkeypatch.setattr(SupervisedLearner, "learn", killed)
    assert main(words(tiny_policy, run, *EXPERT, "--episodes", "30")) == 128 + signal.SIGTERM
    assert f"Continue with: arpo sft --resume {run}" in said(capsys)
    monkeypatch.undo()
    monkeypatch.setattr(sft, "lessons_for", lambda *others: pytest.fail("nothing is demonstrated again"))
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 7, "lo')  # a line that the kill cut off
    assert main(["sft", "--resume", str(run)]) == 0
    assert_equal_runs(run, taught)


@pytest.mark.slow
def test_a_run_that_is_killed_outright_goes_on_to_the_same_bytes(tiny_policy: Path, tmp_path: Path) -> None:
    long = [*EXPERT, "--episodes", "30", "--steps", "300", "--checkpoint-every", "30"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-m", "algorithms.cli", *words(tiny_policy, killed, *long)])
    try:
        deadline = time.monotonic() + 120
        done = killed / "checkpoints" / "step-000060"
        while not done.is_dir() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert (killed / "metrics.jsonl").is_file()
    assert not (killed / "summary.json").is_file(), "it ended before it could be killed"
    assert main(["sft", "--resume", str(killed)]) == 0
    assert main(words(tiny_policy, whole, *long)) == 0
    assert_equal_runs(killed, whole, steps=300)


def test_a_finished_run_can_be_resumed_and_only_reports_again(taught: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(taught, run, symlinks=True)
    assert main(["sft", "--resume", str(run)]) == 0
    assert_equal_runs(run, taught)


def test_adapters_need_the_model_that_the_run_began_with(tiny_policy: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("peft")
    start, run = tmp_path / "start", tmp_path / "run"
    shutil.copytree(tiny_policy, start)
    assert main(words(start, run, *EXPERT, "--episodes", "8", "--lora", "2")) == 0
    assert weights(run).keys() == weights_of(tiny_policy).keys(), "they are merged into the policy"
    assert main(["sft", "--resume", str(run)]) == 0
    (start / "model.safetensors").write_bytes(b"other")
    assert exit_status(["sft", "--resume", str(run)]) == 2
    assert "is not the model that the run began with" in said(capsys)


# --- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("--env ARPO/SearchMini-v0", "Say with --policy which model to train"),
        ("--policy POLICY", "one of --data FILE, --run RUN and --env ENV"),
        ("--policy POLICY --env ARPO/SearchMini-v0 --data some.jsonl", "one of --data FILE, --run RUN and --env ENV"),
        ("--policy POLICY --env ARPO/SearchMini-v0 --skip-malformed", "it belongs to --data"),
        ("--policy POLICY --env ARPO/SearchMini-v0 --held-out 1", "at least 0 and below 1, got 1.0"),
        ("--policy POLICY --env ARPO/SearchMini-v0 --batch 0", "batch must be at least 1"),
        ("--policy POLICY --env ARPO/SearchMini-v0 --episodes 2 --context-length 4", "none fits into --context-length 4"),
        ("--policy POLICY --env ARPO/Serch-v0", "Did you mean 'ARPO/Search-v0'?"),
        ("--policy POLICY --run .", "there is no trees.jsonl.zst in it"),
        ("--policy embedded --env ARPO/SearchMini-v0", "with a cold start of its own: `arpo train` does that"),
        ("--policy http://127.0.0.1:9 --env ARPO/SearchMini-v0", "Name the model's folder"),
        ("--resume .", "there is no sft.json in it"),
        ("--resume . --steps 7", "--steps would have no effect with --resume"),
    ],
)
def test_a_mistake_is_explained_before_any_work(
    given: str, hint: str, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_status(["sft", *given.replace("POLICY", str(tiny_policy)).split()]) == 2
    assert hint in said(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(taught: Path, tiny_policy: Path, capsys: Any) -> None:
    assert exit_status(words(tiny_policy, taught, *EXPERT)) == 2
    assert f"{taught} is not empty. Continue with `arpo sft --resume {taught}`" in said(capsys)


def test_a_run_on_which_another_command_is_at_work_is_left_alone(
    taught: Path, tiny_policy: Path, tmp_path: Path, capsys: Any
) -> None:
    run, new = tmp_path / "run", tmp_path / "new"
    shutil.copytree(taught, run, symlinks=True)
    new.mkdir()
    before = {path: path.stat().st_ctime_ns for path in run.rglob("*")}
    begin = words(tiny_policy, new, *EXPERT, "--episodes", "2")
    for folder, command in ((run, ["sft", "--resume", str(run)]), (new, begin)):
        with alone(folder):
            assert exit_status(command) == 2
        assert f"Another command is at work on {folder}: wait" in said(capsys)
    assert {path: path.stat().st_ctime_ns for path in run.rglob("*")} == before
    assert not list(new.iterdir())


def test_an_option_that_would_be_ignored_is_refused_even_if_it_is_given_with_its_default(taught: Path, capsys: Any) -> None:
    assert exit_status(["sft", "--resume", str(taught), "--batch", "8", "--context_length=1024"]) == 2
    assert "--batch would have no effect with --resume" in said(capsys), "the run has 4, and that context length"


def test_damaged_rollouts_are_told(finished: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    damaged = bytearray((run / "trees.jsonl.zst").read_bytes())
    damaged[100] ^= 255
    (run / "trees.jsonl.zst").write_bytes(damaged)
    assert exit_status(words(finished, tmp_path / "no", "--run", str(run))) == 2
    assert "trees.jsonl.zst cannot be read: The file is damaged at byte 0" in said(capsys)


def test_rollouts_of_another_tokenizer_are_refused(finished: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished / "policy", other)
    held = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = held["model"]["vocab"]
    vocabulary[-1], vocabulary[-2] = vocabulary[-2], vocabulary[-1]
    (other / "tokenizer.json").write_text(json.dumps(held), encoding="utf-8")
    assert exit_status(words(other, tmp_path / "run", "--run", str(finished))) == 2
    assert "are tokens of another tokenizer" in said(capsys)


def test_each_option_has_one_heading_and_a_configuration_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert sorted(name for group in GROUPS for name in group.options) == sorted(OPTIONS)
    config = SftConfig.of({"env": "ARPO/SearchMini-v0", "env_args": ("hops=1",), "policy": "smollm2", "lora": 4, "warmup": 3})
    config.save(tmp_path)
    again = SftConfig.load(tmp_path)
    assert (again.learner, again.env_args, again.resume) == (config.learner, ("hops=1",), tmp_path)
    assert config.learner.lora is not None
    assert (config.learner.lora.rank, config.learner.schedule.warmup) == (4, 3)


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (3, 7), (7, 3), (4, 4)])
def test_every_demonstration_is_learned_once_before_one_is_learned_again(batch: int, count: int) -> None:
    drawn = np.array([sft.chosen(step, batch, count, 5) for step in range(3 * count)]).ravel()
    rounds = drawn.reshape(-1, count)
    assert (np.sort(rounds) == np.arange(count)).all()
    assert count < 3 or len({tuple(order) for order in rounds.tolist()}) > 1
