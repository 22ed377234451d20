"""The README's first command, whole: a cold start with a bad habit, and ARPO that unlearns it; and every other algorithm
from that start.
"""

import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT
from small_recipes import SMALL

from algorithms.cli import main
from algorithms.models.loading import load_policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5000)]

SUCCESS_BEFORE = {"sampled": 0.40, "greedy": 0.20}
"""At most: the cold start leaves something to learn, above all in what the policy does when it is greedy."""
SUCCESS_AFTER = {"sampled": 0.85, "greedy": 0.90}
"""At least: a decision was changed; less could be sampling noise that went away."""
CLOSED_BOOK_OVER_MAJORITY = 0.03
"""At most: without tools the policy knows no answers, only which of them is frequent."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder that `make train` leaves behind."""
    assert shutil.which("make"), "this test needs make"
    folder = tmp_path_factory.mktemp("main") / "run"
    words = ["make", "train", f"ARGS=--output {folder} --seed 1"]
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, timeout=4900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_leaves_behind_what_the_readme_says(run: Path) -> None:
    for name in ("config.json", "summary.json", "metrics.jsonl", "trees.jsonl.zst", "training.png", "policy/config.json"):
        assert (run / name).exists(), f"{name} was not left behind"
    steps = json.loads((run / "config.json").read_text(encoding="utf-8"))["steps"]
    assert len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == steps
    assert (run / "trees.jsonl.zst").stat().st_size <= 5_000_000


def test_arpo_turns_the_habit_into_the_right_decision(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for how in ("sampled", "greedy"):
        assert summary[f"success_before_{how}"] <= SUCCESS_BEFORE[how]
        assert summary[f"success_after_{how}"] >= SUCCESS_AFTER[how]
    assert summary["success_closed_book"] <= summary["success_majority"] + CLOSED_BOOK_OVER_MAJORITY
    assert summary["inherited_tool_calls_per_prompt"] > 0


def options(case: str) -> list[str]:
    """Returns a recipe's settings as words of the command, which has options of its own for some of them."""
    own = [
        word for name in ("rollouts", "roots", "probe") if name in SMALL[case] for word in (f"--{name}", f"{SMALL[case][name]}")
    ]
    rest = [f"{name}={value}" for name, value in SMALL[case].items() if f"--{name}" not in own]
    return [*own, *(["--algorithm-args", *rest] if rest else [])]


@pytest.mark.turns("case", always=7, often=0)  # each is trained from a tiny start in `test_every_recipe`
@pytest.mark.parametrize("case", SMALL)
def test_every_algorithm_trains_the_same_start(case: str, run: Path, tmp_path: Path) -> None:
    start, other = run / "cold_start", tmp_path / "run"
    words: list[Any] = ["--policy", start, "--env", "ARPO/SearchMini-v0", "--context-length", 512, "--action-tokens", 16]
    words += ["--algorithm", case.partition(",")[0], *options(case), "--learning-rate", 5e-4]
    words += ["--steps", 2, "--prompts", 6, "--eval-questions", 4, "--output", other]
    assert main(["train", *map(str, words)]) == 0
    steps = [json.loads(line) for line in (other / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(steps) == 2
    assert all(math.isfinite(value) for step in steps for value in step.values() if isinstance(value, float))
    assert any(step["gradient_norm"] > 0 for step in steps)
    before, after = (load_policy(folder)[0].state_dict() for folder in (start, other / "policy"))
    assert any((before[name] != after[name]).any() for name in before)
