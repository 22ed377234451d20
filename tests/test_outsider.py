"""An outsider's walk: five parts written from the pages alone, with planted faults; and a page's environment trained."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks

from algorithms.tracking.trees import count_trees

pytestmark = pytest.mark.slow

OUTSIDER = ROOT / "tests" / "outsider"
TINY = ["--prompts", "2", "--rollouts", "4", "--eval-questions", "2", "--steps", "2", "--train-args", "--eval-args"]


def run(folder: Path, packages: Path, *words: str) -> str:
    """Runs Python where the packages are found, and returns what it said, in one line."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)]), "COLUMNS": "300"}
    options = {"cwd": folder, "env": env, "capture_output": True, "text": True, "check": False, "timeout": 280}
    done = subprocess.run([sys.executable, *words], **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return " ".join((done.stdout + done.stderr).split())


def train(folder: Path, packages: Path, policy: Path, *words: str) -> str:
    command = ["-m", "algorithms.cli", "train", "--policy", str(policy), "--output", "run", *TINY, *words]
    return run(folder, packages, *command)


def summary(folder: Path) -> dict:
    return json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))


def test_the_parts_pass_and_every_planted_fault_is_found_and_explained(tmp_path: Path) -> None:
    said = run(tmp_path, OUTSIDER, str(OUTSIDER / "walk.py"))
    assert said.count("FOUND") == 11
    assert "MISSED" not in said


def test_only_what_the_pages_name_is_imported() -> None:
    """A part of the outsider's may use what stands in the pages, and nothing that is found by reading our code."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    ours = re.compile(r"^from ((?:algorithms|arpo_envs)[\w.]*) import (.+)$", re.MULTILINE)
    named = {(module, name.strip()) for module, names in ours.findall(pages) for name in names.split(",")}
    for file in OUTSIDER.rglob("*.py"):
        for module, names in ours.findall(file.read_text(encoding="utf-8")):
            for name in names.split(","):
                name = name.partition(" as ")[0].strip()
                assert (module, name) in named, f"{file.name}: {module}.{name} is on no page"


def test_its_stack_and_algorithm_train_to_a_summary(tiny_policy: Path, tmp_path: Path) -> None:
    algorithm = ["--algorithm", "outsider.algorithm:careful", "--algorithm-args", "failures=True"]
    env = ["--env", "outsider:Outsider/CountedLedger-v0", "--env-args", "largest=5", "cost=0.2"]
    said = train(tmp_path, OUTSIDER, tiny_policy, *env, *algorithm)
    assert summary(tmp_path)["algorithm"] == "outsider.algorithm:careful"
    assert "forks per prompt" in said
    assert count_trees(tmp_path / "run" / "trees.jsonl.zst") == 4


def test_the_metres_of_the_page_train_to_a_summary(tiny_policy: Path, tmp_path: Path) -> None:
    page = [block.text for block in blocks(ROOT / "docs" / "add-an-environment.md") if block.language == "python"]
    until = next(number for number, text in enumerate(page) if "class MetresEnv" in text)
    code = "\n".join(page[: until + 1]).partition("gym.register(")[0]
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "metres.py").write_text(code, encoding="utf-8")
    registered = 'gym.register("MyPackage/Metres-v0", entry_point="my_package.metres:MetresEnv")'
    (package / "__init__.py").write_text(f"import gymnasium as gym\n{registered}\n", encoding="utf-8")
    said = train(tmp_path, package.parent, tiny_policy, "--env", "my_package:MyPackage/Metres-v0", "--env-args", "largest=9")
    assert summary(tmp_path)["equal_reward_groups"] == 1.0, "a policy that knows nothing of metres is always wrong"
    assert "For every prompt, all rollouts earned the same, and equal rewards teach nothing" in said
    assert "asking 2 held-out questions, greedy" in said
    assert "hops" not in said
    assert "world=" not in said
