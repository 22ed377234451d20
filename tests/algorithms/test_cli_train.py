"""`arpo train` from the outside: what it leaves behind, what it refuses, and that it goes on exactly where it was killed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from model_toys import stored_state

from algorithms.checkpoint import latest
from algorithms.cli import main, train
from algorithms.cli.alone import alone
from algorithms.cli.summary import plot
from algorithms.tracking.trees import read_trees

SMALL = ["--env-args", "cities_per_country=4", "--prompts", "4", "--rollouts", "6", "--eval-questions", "4"]
SUMMARY = {
    "success_before_sampled",
    "success_before_greedy",
    "success_after_sampled",
    "success_after_greedy",
    "success_closed_book",
    "success_majority",
    "executed_tool_calls_per_prompt",
    "inherited_tool_calls_per_prompt",
    "forks_per_prompt",
    "equal_reward_groups",
    "seconds",
    "algorithm",
    "seed",
}
CLOCKS = {"rollout_seconds", "update_seconds", "save_seconds", "clone_seconds_per_prompt", "tokens_per_second"}

pytestmark = pytest.mark.usefixtures("wide_terminal")


def arguments(policy: Path, run: Path, *more: str, steps: int = 2) -> list[str]:
    return ["train", "--policy", str(policy), "--output", str(run), "--steps", str(steps), *SMALL, *more]


def exit_status(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:
        return end.code


def said(capsys) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def logged(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in CLOCKS} for line in lines]


def weights(run: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(run / "policy").state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# --- what a run leaves behind ----------------------------------------------------------------------------


def test_a_run_leaves_a_summary_metrics_trees_a_plot_and_a_policy(finished):
    assert set(summary(finished)) == SUMMARY
    assert summary(finished)["algorithm"] == "arpo"
    assert summary(finished)["forks_per_prompt"] > 0
    assert [line["step"] for line in logged(finished)] == [0, 1, 2]
    assert logged(finished)[0]["gradient_norm"] > 0, "else the tests below would compare runs that never learned"
    assert logged(finished)[1]["gradient_norm"] > 0
    trees = list(read_trees(finished / "trees.jsonl.zst"))
    assert [tree.meta["step"] for tree in trees] == [0] * 4 + [1] * 4 + [2] * 4
    assert all(tree.frozen and len(tree.leaves()) == 6 for tree in trees)
    assert (finished / "training.png").is_file()
    assert (finished / "policy" / "embedded.json").is_file()
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step-000002", "step-000003"]


def test_the_plot_of_a_run_is_a_picture(finished, tmp_path, real_pictures):
    plot(tmp_path / "training.png", logged(finished), summary(finished))
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_the_policy_of_a_run_is_an_ordinary_model_folder_that_was_trained(finished, tiny_policy):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    start = AutoModelForCausalLM.from_pretrained(tiny_policy).state_dict()
    assert not same(weights(finished), start)
    assert AutoTokenizer.from_pretrained(finished / "policy").eos_token_id is not None


def test_a_run_can_be_evaluated_by_its_folder(finished, capsys, tmp_path):
    file = tmp_path / "eval.json"
    assert main(["eval", "--policy", str(finished), "--questions", "4", "--temperature", "0", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["args"] == "cities_per_country=4 split=test"
    assert record["success"] == summary(finished)["success_after_greedy"]
    assert "greedy" in said(capsys)


def test_another_run_starts_from_the_policy_of_a_run(finished, tmp_path, capsys):
    assert main(["train", "--dry-run", "--policy", str(finished), "--output", str(tmp_path / "run")]) == 0
    assert '"context_length": 512' in said(capsys), "the lengths of an embedded policy, not those of a large one"
    assert main(arguments(finished, tmp_path / "run", steps=0)) == 0
    assert same(weights(tmp_path / "run"), weights(finished))


@pytest.mark.parametrize("algorithm", [pytest.param("grpo", marks=pytest.mark.slow), "random_branching"])
def test_the_controls_run_from_the_same_command(algorithm, tiny_policy, tmp_path):
    run = tmp_path / algorithm
    assert main(arguments(tiny_policy, run, "--algorithm", algorithm)) == 0
    assert summary(run)["algorithm"] == algorithm
    assert (summary(run)["inherited_tool_calls_per_prompt"] > 0) == (algorithm == "random_branching")
    assert (summary(run)["forks_per_prompt"] > 0) == (algorithm == "random_branching")


def test_shuffled_rewards_train_something_else_on_the_same_trees(finished, tiny_policy, tmp_path):
    run = tmp_path / "shuffled"
    assert main(arguments(tiny_policy, run, "--shuffle-rewards", steps=1)) == 0
    assert summary(run)["algorithm"] == "arpo-shuffled"
    count = len((run / "trees.jsonl.zst").read_bytes())
    assert (run / "trees.jsonl.zst").read_bytes() == (finished / "trees.jsonl.zst").read_bytes()[:count]
    shuffled, true = logged(run)[0], logged(finished)[0]
    assert shuffled["reward"] == true["reward"]
    assert shuffled["gradient_norm"] != true["gradient_norm"]


def test_no_steps_measure_and_save_the_policy_as_it_is(tiny_policy, tmp_path):
    from transformers import AutoModelForCausalLM

    run = tmp_path / "none"
    assert main(arguments(tiny_policy, run, steps=0)) == 0
    assert summary(run)["success_before_greedy"] == summary(run)["success_after_greedy"]
    assert same(weights(run), AutoModelForCausalLM.from_pretrained(tiny_policy).state_dict())


# --- what it refuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("--steps -1", "steps must not be negative"),
        ("--steps many", "many"),
        ("--stpes 3", "--steps"),
        ("--temperature 0", "temperature must be above 0"),
        ("--prompts 0", "prompts must be at least 1"),
        ("--algorithm arp", "Did you mean 'arpo'?"),
        ("--algorithm-args alhpa=0.4", "Did you mean 'alpha'?"),
        ("--algorithm-args alpha=fast", "alpha = a number or 'auto', got 'fast'"),
        ("--algorithm-args tau=0.5", "beta = 0.2 would do nothing"),
        ("--algorithm grpo --roots 2", "grpo does not take 'roots'"),
        ("--rollouts 4 --roots 9", "exceeds rollouts"),
        ("--rollouts 1", "at least 2"),
        ("--env ARPO/SearchMni-v0", "Did you mean 'ARPO/SearchMini-v0'?"),
        ("--env-args hop=2", "Did you mean 'hops'?"),
        ("--env-args hops=9", "hops must lie between 1 and 4"),
        ("--eval-args split=tset", "Did you mean 'test'?"),
        ("--policy nowhere", "nowhere is not a model folder"),
        ("--resume nowhere", "nowhere does not belong to a run"),
        ("--resume nowhere --steps 9 --seed 4", "--steps, --seed would have no effect with --resume"),
    ],
)
def test_a_mistake_is_explained_before_any_work(words, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_status(["train", *words.split()]) == 2
    assert hint in said(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_there_is_none(tiny_policy, tmp_path, capsys):
    assert main(arguments(tiny_policy, tmp_path / "run", "--device", "cuda")) == 2
    assert "torch sees no CUDA device" in said(capsys)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tiny_policy, tmp_path, capsys):
    assert main(arguments(tiny_policy, tmp_path / "run", "--dry-run")) == 0
    text = said(capsys)
    assert '"rollouts": 6' in text
    assert '"roots": 3' in text, "resolved"
    assert "arpo: 6 rollouts from 3 roots" in text
    assert "agree within" in text
    assert "Nothing was trained" in text
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_is_refused(finished, tiny_policy, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    assert main(arguments(tiny_policy, tmp_path)) == 2
    assert "is not empty" in said(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert main(arguments(tiny_policy, finished)) == 2
    assert f"arpo train --resume {finished}" in said(capsys)


def test_a_run_on_which_another_command_is_at_work_is_left_alone(finished, tiny_policy, tmp_path, capsys):
    run, new = tmp_path / "run", tmp_path / "new"
    shutil.copytree(finished, run, symlinks=True)
    (run / "cluster").mkdir()
    new.mkdir()
    before = {path: path.stat().st_ctime_ns for path in run.rglob("*")}
    for folder, words in ((run, ["train", "--resume", str(run), "--steps", "9"]), (new, arguments(tiny_policy, new))):
        with alone(folder):
            assert main(words) == 2
        assert f"Another command is at work on {folder}: wait" in said(capsys)
    assert {path: path.stat().st_ctime_ns for path in run.rglob("*")} == before
    assert not list(new.iterdir())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--prompts 24", "--prompts"),  # the run has 4
        ("--eval_questions=300 --steps 9", "--steps, --eval_questions"),
        ("--policy embedded", "--policy"),
        ("--action-tokens None", "--action-tokens"),
        ("--seed 1", ""),  # as the run has it
        ("--lora None --no-shuffle-rewards", ""),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_even_if_it_is_given_with_its_default(words, names, finished, capsys):
    names = names.replace("_", "-")
    assert main(["train", "--resume", str(finished), "--dry-run", *words.split()]) == (2 if names else 0)
    assert (f"{names} would have no effect with --resume" in said(capsys)) == bool(names)


# --- the same again, also after a kill -------------------------------------------------------------------


KILLED = """
import os, signal, sys
from algorithms.cli import main, tracked
log_all = tracked.log_all

def killed(trackers, step, metrics):
    log_all(trackers, step, metrics)
    if step == 1:
        os.kill(os.getpid(), signal.SIGKILL)

tracked.log_all = killed
sys.exit(main(sys.argv[1:]))
"""


def assert_equal_runs(left: Path, right: Path) -> None:
    assert (left / "trees.jsonl.zst").read_bytes() == (right / "trees.jsonl.zst").read_bytes()
    assert logged(left) == logged(right)
    assert same(weights(left), weights(right))
    assert same(*(stored_state(latest(run).learner) for run in (left, right)))
    assert {k: v for k, v in summary(left).items() if k != "seconds"} == {
        k: v for k, v in summary(right).items() if k != "seconds"
    }


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(finished, tiny_policy, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    assert main(arguments(tiny_policy, again, "--checkpoint-every", "7", steps=3)) == 0
    assert_equal_runs(finished, again)
    assert main(arguments(tiny_policy, other, "--seed", "2", steps=1)) == 0
    assert not (finished / "trees.jsonl.zst").read_bytes().startswith((other / "trees.jsonl.zst").read_bytes())


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(finished, tiny_policy, tmp_path, capsys):
    run = tmp_path / "killed"
    words = arguments(tiny_policy, run, "--checkpoint-every", "1", "--wait-for-checkpoints", steps=3)
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [line["step"] for line in logged(run)] == [0, 1]
    assert latest(run).step == 1, "killed after step 2 was logged, before it was saved"
    with (run / "trees.jsonl.zst").open("ab") as file:
        file.write((run / "trees.jsonl.zst").read_bytes()[:99])
    assert main(["train", "--resume", str(run)]) == 0
    assert "2/3" in said(capsys)
    assert_equal_runs(finished, run)


def test_a_finished_run_can_be_resumed_and_only_reports_again(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    before = {path: path.read_bytes() for path in run.glob("*.jsonl")}
    assert main(["train", "--resume", str(run)]) == 0
    assert "held-out success" in said(capsys)
    assert {path: path.read_bytes() for path in run.glob("*.jsonl")} == before


def started(words: list[str], **options) -> subprocess.Popen:
    code = "import sys; from algorithms.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tiny_policy, tmp_path):
    run = tmp_path / "run"
    with started(arguments(tiny_policy, run, steps=100_000)) as process:
        try:
            deadline = time.monotonic() + 60
            while not (run / "metrics.jsonl").is_file() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert f"Continue with: arpo train --resume {run}" in " ".join(output.split())
    assert latest(run).step == len(logged(run)) >= 1
    assert "Traceback" not in errors


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_can_be_resumed_too(finished, tiny_policy, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments: object) -> Path:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(train, "starting_policy", interrupted)
        assert main(arguments(tiny_policy, run, steps=3)) == 130
    assert f"arpo train --resume {run}" in said(capsys)
    assert main(["train", "--resume", str(run)]) == 0
    assert_equal_runs(finished, run)
