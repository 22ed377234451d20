"""The package in `sample_plugin/`, installed as anyone's, works from the command line with no edit here."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from algorithms.tracking.trees import count_trees

pytestmark = pytest.mark.slow

PARTS = ["--env-args", "cities_per_country=4", "tools=convert", "--prompts", "2", "--rollouts", "4", "--eval-questions", "2"]
BY_NAME = ["--algorithm", "median_grpo", "--policy", "metered"]
BY_REFERENCE = ["--algorithm", "sample_plugin.algorithm:median_grpo", "--policy", "sample_plugin.policy:metered"]
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
ARPO = "import sys; from algorithms.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns where the commands run."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def arpo(sample_plugin: str, folder: Path):
    """Returns what runs a command in a process that finds the package, and gives what it said."""
    options = {"env": os.environ | {"PYTHONPATH": sample_plugin, "COLUMNS": "300"}, "cwd": folder, "timeout": 200}

    def run(*words: str, code: str = ARPO, status: int = 0, typed: str = "") -> str:
        process = [sys.executable, "-c", code, *words]
        done = subprocess.run(process, input=typed, capture_output=True, text=True, check=False, **options)
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def named(arpo, tiny_policy: Path, folder: Path) -> Path:
    """Returns the folder of a run with the package's parts, all by name."""
    arpo(*training(tiny_policy, "named", *BY_NAME, "--policy-args", "log=meter.log"))
    return folder / "named"


def training(policy: Path, run: str, *words: str) -> list[str]:
    return ["train", *words, "--model-folder", str(policy), *PARTS, "--steps", "2", "--checkpoint-every", "1", "--output", run]


def test_it_is_listed_and_explained(arpo) -> None:
    text = arpo("algorithms")
    assert "GRPO with the group's median for a baseline" in text
    assert "from sample-plugin 0.1.0, sample_plugin.algorithm:median_grpo" in text
    assert "arpo train --algorithm median_grpo --algorithm-args clip=0.2" in arpo("algorithms", "median_grpo")
    assert "Did you mean 'median_grpo'?" in arpo("algorithms", "median_grop", status=2)


def test_its_environment_is_listed_explained_and_played_and_imported_only_then(arpo) -> None:
    import_only = "import sys, arpo_envs, arpo_envs.envs.named; print('sample_plugin' in sys.modules)"
    assert arpo(code=import_only).strip() == "False"
    text = arpo("envs")
    assert "Sample/Lengths-v0" in text
    assert "from sample-plugin 0.1.0" in text
    assert "Did you mean 'largest'?" in arpo("play", "Sample/Lengths-v0", "--args", "lagest=3", status=2)
    assert "number in a question" in arpo("envs", "Sample/Lengths-v0")
    call = json.dumps({"value": 8, "unit": "km", "into": "m"})
    played = arpo("play", "Sample/Lengths-v0", "--task", "8-km", typed=f"convert {call}\nanswer 8000\n")
    assert "8 km = 8000 m" in played
    assert "reward 1" in played


def test_its_environment_trains_to_a_summary(arpo, tiny_policy: Path, folder: Path) -> None:
    words = ["--env", "Sample/Lengths-v0", "--env-args", "largest=9", "--policy", str(tiny_policy), "--prompts", "2"]
    text = arpo("train", *words, "--rollouts", "4", "--eval-questions", "2", "--steps", "2", "--output", "lengths")
    assert "hops" not in text
    assert "world=" not in text
    assert json.loads((folder / "lengths" / "summary.json").read_text(encoding="utf-8"))["algorithm"] == "arpo"
    assert "Sample/Lengths-v0" in arpo("eval", "--policy", "lengths", "--questions", "2")


CHECKS = """
from algorithms import make
from algorithms.testing import check_algorithm
from arpo_envs.testing import check_tool
from arpo_envs.tools.named import make_tool
print(check_algorithm(make("median_grpo", rollouts=4)))
length = {"unit": "km", "into": "mile"}
calls = [("convert", {"value": 3, **length}), ("again", {"value": 2}), ("convert", {"value": 1, "unit": "m", "into": "foot"})]
print(check_tool(make_tool("convert"), calls=[*calls, ("again", {"value": 9})]))
"""


def test_its_parts_keep_the_laws(arpo) -> None:
    text = arpo(code=CHECKS)
    assert text.count(" 0 failed") == 2


def test_its_tool_can_be_played_with_and_taken_back(arpo) -> None:
    words = ["play", "--args", "cities_per_country=4", "tools={'convert':{'digits':3}}", "--seed", "1"]
    calls = ["convert", "again", "again"]
    values = [{"value": 3, "unit": "km", "into": "mile"}, {"value": 10}, {"value": 20}]
    typed = [f"{call} {json.dumps(value)}" for call, value in zip(calls, values, strict=True)]
    text = arpo(*words, typed="\n".join([typed[0], "fork", typed[1], "undo", typed[2]]))
    assert "3 km = 1.86 mile" in text
    assert "10 km = 6.21 mile" in text
    assert "20 km = 12.4 mile" in text


def result(folder: Path, arpo, *words: str) -> dict:
    arpo("eval", *words, "--questions", "2", "--temperature", "0", "--json", "eval.json")
    record: dict = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    return {name: value for name, value in record.items() if name not in ("policy", "seconds")}


def test_its_algorithm_policy_and_tool_train(named: Path, folder: Path) -> None:
    lines = (folder / "meter.log").read_text(encoding="utf-8").splitlines()
    versions = [line.split(":")[0] for line in lines]
    # before the run it is compared, with its own weights and with others
    assert versions == [*["version 0"] * 3, "version 1", "version 2"], "it drew, and got all weights"
    assert json.loads((named / "summary.json").read_text(encoding="utf-8"))["algorithm"] == "median_grpo"
    assert count_trees(named / "trees.jsonl.zst") == 4


def test_its_policy_measures_what_our_own_does(arpo, named: Path, folder: Path) -> None:
    own = result(folder, arpo, "--policy", "metered", "--model-folder", "named")
    plain = result(folder, arpo, "--policy", "named")
    assert own == plain
    assert own["args"] == "cities_per_country=4 tools=convert split=test"


def test_a_killed_run_with_its_parts_by_reference_goes_on_exactly(arpo, named: Path, tiny_policy: Path, folder: Path) -> None:
    arpo(*training(tiny_policy, "killed", *BY_REFERENCE), code=KILLED, status=-signal.SIGKILL)
    assert not (folder / "killed" / "summary.json").exists()
    arpo("train", "--resume", "killed")
    assert (folder / "killed" / "trees.jsonl.zst").read_bytes() == (named / "trees.jsonl.zst").read_bytes()
    summary = json.loads((folder / "killed" / "summary.json").read_text(encoding="utf-8"))
    assert summary["algorithm"] == "sample_plugin.algorithm:median_grpo"
