"""`arpo show`: what a person sees of a run, and what a hostile text cannot do there."""

import contextlib
import io
import json
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from algorithms.cli import main, stored
from algorithms.cli.drawing import drawn
from algorithms.cli.transcript import transcript
from algorithms.tracking.trees import read_trees, write_trees
from algorithms.tree import RolloutTree
from arpo_envs.screen import readable

GOLDEN = Path(__file__).parents[1] / "golden" / "arpo.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "training.md"
ATTACKS = [
    "\x1b[2J\x1b[31mred",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x9b31m\x9d0;title\x9c",
    "[bold red]markup[/] [link=https://evil.example]x[/link] [/]",
    "a\u202eb\u2066c\u200fd\u061ce",
    "hidden\u200b\ufeff\U000e0041",
    "\ud800 alone",
    "nul\x00 bell\x07 back\x08\x08 return\rover",
    "x" * 200_000,
    "line\u2028paragraph\u2029end",
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Returns a run of 5 steps with two prompts each."""
    trees = [tree.freeze() for tree in read_trees(GOLDEN)]
    many = [RolloutTree(f"task-{step}-{i}", {"step": step}, t.nodes, True) for step in range(5) for i, t in enumerate(trees)]
    write_trees(tmp_path / "trees.jsonl.zst", many)
    return tmp_path


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["show", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_the_page_shows_what_the_command_prints(capsys):
    shown = printed(capsys, GOLDEN, "--step", 0, "--prompt", 1)
    assert "\n".join(line.rstrip() for line in shown.splitlines()) in PAGE.read_text(encoding="utf-8")


def test_lists_count_steps_prompts_and_leaves(run, capsys):
    overview = json.loads(printed(capsys, run, "--json"))
    assert (overview["trees"], [one["step"] for one in overview["steps"]]) == (10, [0, 1, 2, 3, 4])
    step = json.loads(printed(capsys, run, "--step", 3, "--json"))
    assert [one["task"] for one in step["prompts"]] == ["task-3-0", "task-3-1"]
    assert sum(one["leaves"] for one in step["prompts"]) == overview["steps"][3]["leaves"] == 8
    assert "task-3-1" in printed(capsys, run, "--step", 3)
    assert "10 trees, steps 0 to 4" in printed(capsys, run)


def test_an_overview_lists_the_steps_that_are_there(tmp_path, capsys, monkeypatch):
    nodes = next(read_trees(GOLDEN)).freeze().nodes
    write_trees(tmp_path / "trees.jsonl", [RolloutTree("task", {"step": step}, nodes, True) for step in (2, 2, 5, 9)])
    overview = json.loads(printed(capsys, tmp_path, "--json"))
    assert [(one["step"], one["prompts"]) for one in overview["steps"]] == [(2, 2), (5, 1), (9, 1)]
    monkeypatch.setattr("algorithms.cli.show._MOST_STEPS", 3)
    assert [one["step"] for one in json.loads(printed(capsys, tmp_path, "--json"))["steps"]] == [2, 5, 9]


def test_filters_keep_leaves_and_what_leads_to_them(run, capsys):
    tree = json.loads(printed(capsys, run, "--task", "task-2-0", "--outcome", "right", "--json"))
    nodes = tree["nodes"]
    assert tree["step"] == 2
    assert [nodes[leaf]["success"] for leaf in tree["leaves"]] == [1.0, 1.0]
    shown = printed(capsys, run, "--task", "task-2-0", "--outcome", "right")
    assert "2 of 4 leaves" in shown
    assert [f"leaf {n}" in shown for n in (1, 2, 3, 4)] == [False, True, False, True]
    assert "No leaf is as asked for." in printed(capsys, run, "--task", "task-2-0", "--tool", "other")
    assert json.loads(printed(capsys, run, "--step", 0, "--status", "truncated", "--json"))["prompts"] == []


def test_a_transcript_has_the_means_of_each_action(run, capsys):
    shown = printed(capsys, run, "--step", 0, "--prompt", 1, "--leaf", 2)
    assert "ran count ok · 36 tokens · entropy 0.896 · log-probability -1.000" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step", 9], "has those of steps 0 to 4"),
        (["--step", 1, "--prompt", 3], "prompts 1 to 2"),
        (["--prompt", 1], "--prompt needs --step"),
        (["--leaf", 1], "--leaf needs a tree"),
        (["--step", 1, "--prompt", 1, "--leaf", 5], "leaves 1 to 4"),
        (["--task", "none"], "No tree here is of the task"),
        (["--status", "anwsered"], "answered"),
    ],
)
def test_mistakes_are_told(run, capsys, words, said):
    assert main(["show", str(run), *map(str, words)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_trees_is_told(tmp_path, capsys):
    assert main(["show", str(tmp_path)]) == 2
    assert "has no trees" in " ".join(capsys.readouterr().err.split())


def test_only_what_is_looked_at_is_read(tmp_path, monkeypatch, capsys):
    one = next(read_trees(GOLDEN)).freeze()
    write_trees(tmp_path / "trees.jsonl.zst", [RolloutTree("t", {"step": n}, one.nodes[:1], True) for n in range(2000)])
    read, inner = [], stored.TreeFile.read
    monkeypatch.setattr(stored.TreeFile, "read", lambda file, number: read.append(number) or inner(file, number))
    printed(capsys, tmp_path, "--step", 1234, "--prompt", 1, "--json")
    assert 0 < len(read) <= 2 * 12 + 1, "two binary searches and the tree"


def on_screen(thing: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None, highlight=False)
    console.print(thing)
    return console.file.getvalue()


def spoken(attack: str) -> RolloutTree:
    tree = next(read_trees(GOLDEN)).freeze()
    tree.task = attack
    tree.nodes = [replace(n, text=attack, tool=attack if n.tool else "", fault=attack if n.status else "") for n in tree.nodes]
    return tree


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
@pytest.mark.parametrize("width", [80, 200])
def test_no_text_steers_the_terminal(attack, width):
    tree = spoken(attack)
    leaves = tree.leaves()
    for shown in (drawn(tree, leaves), transcript(tree, leaves[0], attack, numbers=True)):
        text = on_screen(shown, width)
        text.encode("utf-8")
        assert not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
        assert max(map(len, text.splitlines())) <= width
        if attack.startswith("[bold"):
            assert "[bold red]markup[/]" in text, "it is text, not markup"


@given(st.text(st.characters(exclude_characters="\n\t")))
def test_nothing_unseen_is_left_in_a_readable_text(text):
    invisible = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u200b\ufeff\u2028\u2029"
    shown = readable(text + invisible)
    assert not set(shown) & set(invisible)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") for c in shown)


def test_hostile_trees_print_as_ascii_json(tmp_path, capsys):
    trees = [spoken(attack) for attack in ATTACKS if "\ud800" not in attack and len(attack) < 1000]
    write_trees(tmp_path / "trees.jsonl.zst", trees)
    shown = printed(capsys, tmp_path, "--step", 0, "--prompt", 1, "--json")
    assert shown.isascii()
    assert "\x1b" not in shown
    assert json.loads(shown)["nodes"][0]["text"] == ATTACKS[0]


def test_it_reads_a_file_without_its_index(run, capsys):
    shutil.copy(run / "trees.jsonl.zst", run / "alone.zst")
    assert printed(capsys, run / "alone.zst", "--step", 4, "--json") == printed(capsys, run, "--step", 4, "--json")


def test_a_terminal_without_these_letters_is_served_too(run):
    file = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(file, encoding="ascii")) as out:
        assert main(["show", str(run), "--step", "1", "--prompt", "1"]) == 0
        out.flush()
    assert b"leaf 4 ? answered ? reward 1" in file.getvalue()
