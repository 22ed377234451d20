"""`arpo export`: a file for each leaf that is asked for, in a folder that is whole or not there."""

import json
from pathlib import Path

import pytest
from atif import Trajectory
from page_toys import trees
from test_cli_engine import said

from algorithms.cli import main
from algorithms.cli.config import TrainConfig
from algorithms.tracking.trees import read_trees, write_trees
from algorithms.tree import RolloutTree

GOLDEN = Path(__file__).parents[1] / "golden" / "arpo.jsonl"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Returns a run of two steps with two prompts each."""
    spoken = next(read_trees(GOLDEN)).meta
    (tmp_path / "run").mkdir()
    found = [RolloutTree(one.task, spoken | one.meta, one.nodes, frozen=True) for one in trees()]
    write_trees(tmp_path / "run" / "trees.jsonl.zst", found)
    return tmp_path / "run"


def exported(run: Path, *words: str) -> dict[str, Trajectory]:
    """Returns the documents that the command writes, by the names of their files."""
    output = run.parent / "documents"
    assert main(["export", str(run), "--output", str(output), *words]) == 0
    return {file.name: Trajectory.model_validate_json(file.read_text(encoding="utf-8")) for file in sorted(output.iterdir())}


def test_every_leaf_is_a_file_that_is_named_as_arpo_show_counts(run, capsys):
    found = exported(run, "--format", "atif")
    first, *_, last = found
    assert (len(found), first, last) == (16, "step-00000-prompt-001-leaf-001.json", "step-00001-prompt-002-leaf-004.json")
    for name, one in found.items():
        assert (one.session_id, f"{one.trajectory_id}.json") == ("run", name)
    assert "16 documents of 4 trees" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--leaves", "best"], 4),
        (["--step", "1"], 8),
        (["--outcome", "right"], 8),
        (["--tool", "count", "--status", "answered", "--step", "0"], 8),
        (["--leaves", "best", "--outcome", "wrong"], 4),
    ],
)
def test_options_choose_among_the_leaves(run, words, count):
    found = exported(run, *words)
    assert len(found) == count
    if words == ["--leaves", "best"]:
        (tree, *_), best = trees(), {one.final_metrics.extra["reward"] for one in found.values()}
        assert best == {max(map(tree.total_reward, tree.leaves()))}


def test_an_older_tree_is_read_as_its_run_was_configured(run):
    older = [RolloutTree(one.task, one.meta, one.nodes, frozen=True) for one in trees(1)]
    (run / "trees.jsonl.zst").unlink()
    (run / "trees.jsonl.zst.index").unlink()
    write_trees(run / "trees.jsonl.zst", older)
    TrainConfig(env_args=("cities_per_country=4",), policy="embedded").save(run)
    (one, *_) = exported(run).values()
    assert (one.agent.extra, one.agent.model_name) == ({"dialect": "tags"}, "embedded")
    assert [tool["function"]["name"] for tool in one.agent.tool_definitions] == ["search"]


def test_a_tree_that_cannot_be_exported_is_named_and_nothing_is_left(run, capsys):
    strange = RolloutTree("t", {"step": 2}, trees(1)[0].nodes, frozen=True)
    write_trees(run / "trees.jsonl.zst", [strange])
    assert main(["export", str(run), "--output", str(run / "out")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "Tree 4 of" in told
    assert "does not say in which dialect" in told
    assert not list(run.glob("*out*"))


def test_a_damaged_tree_is_told_with_its_place(tmp_path, capsys):
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    (tmp_path / "trees.jsonl").write_text(lines[0] + '\n{"task": "t"}\n', encoding="utf-8")
    assert main(["export", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "Tree 1 of" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("*out*"))


def test_gated_questions_stay_out_unless_asked_for(run, capsys):
    (run / "config.json").write_text(json.dumps({"benchmark": "hle"}), encoding="utf-8")
    assert "--include-gated" in said(["export", str(run), "--output", str(run.parent / "documents")], capsys)
    assert not (run.parent / "documents").exists()
    assert exported(run, "--include-gated")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--step", "7"], "has those of steps 0 to 1"),
        (["--tool", "other"], "No leaf of"),
        (["--status", "anwsered"], "Did you mean 'answered'?"),
        (["--output", "."], "exists and is not an empty folder"),
        (["--output", "trees.jsonl.zst/out"], "trees.jsonl.zst is not a folder"),
    ],
)
def test_mistakes_are_told(run, words, hint, capsys, monkeypatch):
    monkeypatch.chdir(run)
    before = sorted(run.iterdir())
    assert hint in said(["export", ".", "--output", "out", *words], capsys)
    assert sorted(run.iterdir()) == before
