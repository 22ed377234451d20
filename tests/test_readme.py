"""Every code block of the README runs, and its first commands are the two that matter."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import ROOT, blocks, check_layout, commands, run_page

README = ROOT / "README.md"
UNTRIED = {("make", "test"), ("make", "study")}
"""The one is running now; the other takes hours."""


def test_layout() -> None:
    check_layout(README)
    content = README.read_text(encoding="utf-8")
    assert content.index("<!-- study:begin -->") < content.index("<!-- study:end -->")
    assert content.index("docs/rollout-tree.svg") < content.index("make train")


def test_the_two_commands_come_first() -> None:
    first = blocks(README)[0]
    assert commands(first) == [["make", "train"], ["make", "test"]]


def test_make_is_only_asked_for_what_is_tried() -> None:
    asked = {tuple(words[:2]) for block in blocks(README) if block.language in ("sh", "console") for words in commands(block)}
    assert {words for words in asked if words[0] == "make"} <= UNTRIED | {("make", "train")}


def test_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_policy: Path) -> None:
    shutil.copytree(tiny_policy, tmp_path / "path" / "to" / "model")  # stands for the reader's own
    assert run_page(README, tmp_path, monkeypatch) >= 4


@pytest.mark.slow
@pytest.mark.timeout(4000)
def test_make_train(tmp_path: Path) -> None:
    """The README's first command, with few steps: what it says is left behind, is."""
    assert shutil.which("make"), "this test needs make"
    run = tmp_path / "run"
    words = ["make", "train", f"ARGS=--steps 2 --eval-questions 4 --output {run}"]
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, timeout=3900)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("config.json", "summary.json", "metrics.jsonl", "trees.jsonl", "training.png", "policy/config.json"):
        assert (run / name).exists(), f"{name} was not left behind"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert "success_after_greedy" in json.loads((run / "summary.json").read_text())
