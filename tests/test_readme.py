"""Every code block of the README runs, and its first commands are the two that matter."""

import shutil
from pathlib import Path

import pytest
from pages import ROOT, blocks, check_layout, commands, run_page

README = ROOT / "README.md"
UNTRIED = {("make", "test"), ("make", "study")}
"""The one is running now; the other takes hours. `make train` is run by `test_main_run.py`."""


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
    assert run_page(README, tmp_path, monkeypatch, rehearse_here=True) >= 4
