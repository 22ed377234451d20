"""How many rollout trees a run keeps, and in which form."""

import shutil
from pathlib import Path

import pytest
from golden import readable
from test_cli_durable import disturbed
from test_cli_train import arguments, assert_equal_runs, said

from algorithms.cli import main
from algorithms.cli.config import TrainConfig
from algorithms.tracking.trees import read_trees
from algorithms.tree import RolloutTree
from arpo_envs import ConfigError

STEPS = 5
SHORT = ["--prompts", "2", "--rollouts", "4", "--eval-questions", "1", "--checkpoint-every", "2"]

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.fixture(scope="module")
def whole(tiny_policy, tmp_path_factory) -> Path:
    """Returns the folder of a run that kept all its trees."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert main(arguments(tiny_policy, run, *SHORT, steps=STEPS)) == 0
    return run


def kept(run: Path) -> list[RolloutTree]:
    return list(read_trees(run / "trees.jsonl.zst"))


def test_the_trees_of_the_last_steps_stay(whole, tiny_policy, tmp_path, monkeypatch):
    run, once = tmp_path / "two", tmp_path / "once"
    assert main(arguments(tiny_policy, once, *SHORT, "--keep-trees", "2", steps=STEPS)) == 0
    assert kept(once) == [tree for tree in kept(whole) if tree.meta["step"] >= 3]
    with monkeypatch.context() as patched:
        disturbed(patched, lambda: (_ for _ in ()).throw(RuntimeError("broken off")), at=3)
        with pytest.raises(RuntimeError, match="broken off"):
            main(arguments(tiny_policy, run, *SHORT, "--keep-trees", "2", steps=STEPS))
    assert main(["train", "--resume", str(run)]) == 0
    assert_equal_runs(once, run)


def test_no_trees_stay(whole, tiny_policy, tmp_path):
    run = tmp_path / "none"
    assert main(arguments(tiny_policy, run, *SHORT, "--keep-trees", "none", steps=1)) == 0
    assert not list(run.glob("trees*"))


def test_a_run_that_wrote_lines_goes_on_compressed(whole, tiny_policy, tmp_path):
    run = tmp_path / "old"
    shutil.copytree(whole, run, symlinks=True)
    (run / "trees.jsonl").write_text("".join(readable(tree) + "\n" for tree in kept(run)), encoding="utf-8")
    for name in ("trees.jsonl.zst", "trees.jsonl.zst.index"):
        (run / name).unlink()
    assert main(["train", "--resume", str(run)]) == 0
    assert_equal_runs(whole, run)
    assert not (run / "trees.jsonl").exists()


@pytest.mark.parametrize("asked", ["0", "-3", "some"])
def test_how_many_stay_is_a_number_or_a_word(asked, tiny_policy, tmp_path, capsys):
    try:
        status = main(arguments(tiny_policy, tmp_path / "run", f"--keep-trees={asked}"))
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert "keep" in said(capsys)
    assert not (tmp_path / "run").exists()


def test_a_configuration_remembers_how_many_stay(tmp_path):
    for asked in ("all", "none", 3):
        TrainConfig(keep_trees=asked, output=tmp_path).save(tmp_path)
        assert TrainConfig.load(tmp_path).keep_trees == asked
    with pytest.raises(ConfigError, match="keep_trees"):
        TrainConfig(keep_trees=0)
