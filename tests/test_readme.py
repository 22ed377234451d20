"""Every code block of the README runs, and its first commands are the two that matter."""

import os
import shutil
import subprocess
import sys
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
    assert content.index("docs/run-page.png") < content.index("make train")


def test_the_two_commands_come_first() -> None:
    first = blocks(README)[0]
    assert commands(first) == [["make", "train"], ["make", "test"]]


def test_make_is_only_asked_for_what_is_tried() -> None:
    asked = {tuple(words[:2]) for block in blocks(README) if block.language in ("sh", "console") for words in commands(block)}
    assert {words for words in asked if words[0] == "make"} <= UNTRIED | {("make", "train")}


def test_the_transcript_is_what_play_prints() -> None:
    (shown,) = [block.text for block in blocks(README) if block.language == "text" and "\n> " in block.text]
    (words,) = [words for block in blocks(README) if block.language == "sh" for words in commands(block) if "play" in words]
    typed = "".join(line[2:] + "\n" for line in shown.splitlines() if line.startswith("> "))
    run = subprocess.run(
        [sys.executable, "-m", "algorithms.cli", *words[1:]],
        input=typed,
        env={**os.environ, "COLUMNS": "88", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=120,
    )
    assert shown in "".join(line.rstrip() + "\n" for line in run.stdout.splitlines())


@pytest.mark.parametrize("name", ["training.png", "run-page.png", "run-page-dark.png", "run-page-phone.png", "comparison.png"])
def test_pictures_are_small(name: str) -> None:
    plot = ROOT / "docs" / name
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert plot.stat().st_size < 150_000


def test_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_policy: Path) -> None:
    shutil.copytree(tiny_policy, tmp_path / "path" / "to" / "model")  # stands for the reader's own
    assert run_page(README, tmp_path, monkeypatch, rehearse_here=True) >= 4
