"""`arpo study`: which runs it starts, goes on with and leaves alone, and the table it writes."""

import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from algorithms.cli import main, study

PAGE = f"# Title\n\n{study.BEGIN}\nold\n{study.END}\n\nafter\n"
TINY = ["--env-args", "cities_per_country=4", "--prompts", "2", "--rollouts", "4", "--eval-questions", "2", "--steps", "1"]
ORDER = [f"{arm}-seed{seed}" for seed in (1, 2) for arm in study.ARMS]

pytestmark = pytest.mark.usefixtures("wide_terminal")


def said(capsys) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def exit_status(words: list[str]) -> int:
    """Returns the exit status, whoever ends the program: we, or the parser of the arguments."""
    try:
        return main(words)
    except SystemExit as end:
        return end.code


def words(folder: Path, *more: str) -> list[str]:
    """Returns a study that keeps all it writes in `folder`."""
    page = folder / "PAGE.md"
    page.write_text(PAGE, encoding="utf-8")
    return [
        "study",
        "--output",
        f"{folder / 'runs'}",
        "--readme",
        f"{page}",
        "--results",
        f"{folder / 'all' / 's.json'}",
        *more,
    ]


def instead_of_processes(monkeypatch, train) -> list[list[str]]:
    """Hands what `arpo train` is called with to `train`, which returns its exit status; returns the list of these calls."""
    calls: list[list[str]] = []

    def run(command, check):
        assert command[1:5] == ["-m", "algorithms.cli.tied", str(os.getpid()), "train"], "it ends with the study"
        calls.append(command[5:])
        return subprocess.CompletedProcess(command, train(command[5:]))

    monkeypatch.setattr(study, "subprocess", SimpleNamespace(run=run))
    return calls


def refused(arguments: list[str]) -> int:
    raise AssertionError(f"a finished run was trained again: {arguments}")


def summary(algorithm: str, seed: int, success: float, **more: float | None) -> dict:
    names = [f"success_{when}_{how}" for when in ("before", "after") for how in ("sampled", "greedy")]
    rest = {"success_closed_book": None, "success_majority": None}
    calls = {"executed_tool_calls_per_prompt": 20.0, "inherited_tool_calls_per_prompt": 10.0}
    return {**dict.fromkeys(names, success), **rest, **calls, "algorithm": algorithm, "seed": seed, **more}


def pretended(arguments: list[str]) -> int:
    """Leaves a run behind without training it."""
    given = dict(pairwise(arguments))
    run = Path(given.get("--output") or given["--resume"])
    (run / "cold_start").mkdir(parents=True, exist_ok=True)
    (run / "summary.json").write_text(json.dumps(summary(given.get("--algorithm", "?"), 1, 0.5)), encoding="utf-8")
    return 0


# --- the runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tiny_policy, tmp_path_factory) -> Path:
    """Returns the folder of a study of one seed, whose runs were really trained."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as monkeypatch:
        instead_of_processes(monkeypatch, lambda arguments: main(["train", *arguments]))
        assert main(words(folder, "--seeds", "3", "--train", "--policy", str(tiny_policy), *TINY)) == 0
    return folder


def again(finished: Path, folder: Path) -> tuple[Path, list[str]]:
    """Returns a copy of the runs, and the words of the same study on it."""
    shutil.copytree(finished / "runs", folder / "runs", symlinks=True)
    return folder / "runs", words(folder, "--seeds", "3")


@pytest.mark.slow
def test_a_study_trains_every_arm_from_the_same_start_and_writes_the_table(finished):
    kept = json.loads((finished / "all" / "s.json").read_text(encoding="utf-8"))
    assert [one["algorithm"] for one in kept] == list(study.ARMS)
    assert {one["seed"] for one in kept} == {3}
    assert len({(one["success_before_sampled"], one["success_before_greedy"]) for one in kept}) == 1
    page = (finished / "PAGE.md").read_text(encoding="utf-8")
    assert page == PAGE.replace("old", study.markdown(kept))
    for arm in study.ARMS:
        run = finished / "runs" / f"{arm}-seed3"
        assert len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 1, "--train --steps 1 reached the run"


@pytest.mark.slow
def test_finished_runs_are_not_trained_again(finished, tmp_path, monkeypatch):
    _, same = again(finished, tmp_path)
    assert instead_of_processes(monkeypatch, refused) == []
    assert main(same) == 0
    for file in ("PAGE.md", "all/s.json"):
        assert (tmp_path / file).read_bytes() == (finished / file).read_bytes()


@pytest.mark.slow
def test_an_unfinished_run_is_resumed_and_only_that(finished, tmp_path, monkeypatch):
    runs, same = again(finished, tmp_path)
    (runs / "grpo-seed3" / "summary.json").unlink()
    calls = instead_of_processes(monkeypatch, lambda arguments: main(["train", *arguments]))
    assert main(same) == 0
    assert calls == [["--resume", str(runs / "grpo-seed3")]]
    assert (tmp_path / "PAGE.md").read_text(encoding="utf-8") == (finished / "PAGE.md").read_text(encoding="utf-8")


def test_the_arms_of_a_seed_share_its_first_cold_start(tmp_path, monkeypatch):
    calls = instead_of_processes(monkeypatch, pretended)
    assert main(words(tmp_path, "--seeds", "1", "2", "--train", "--steps", "7")) == 0
    given = [dict(pairwise(call)) for call in calls]
    assert [Path(one["--output"]).name for one in given] == ORDER
    assert [one["--seed"] for one in given] == ["1"] * 4 + ["2"] * 4
    assert [one["--steps"] for one in given] == ["7"] * 8
    first = [None, *[str(tmp_path / "runs" / "arpo-seed1" / "cold_start")] * 3]
    assert [one.get("--policy") for one in given] == [*first, *[one and one.replace("seed1", "seed2") for one in first]]
    assert ["--shuffle-rewards" in call for call in calls] == [False, False, False, True] * 2


def test_a_policy_of_ones_own_is_everyones_start(tmp_path, monkeypatch):
    calls = instead_of_processes(monkeypatch, pretended)
    assert main(words(tmp_path, "--seeds", "1", "--train", "--policy", "mine")) == 0
    assert [call[call.index("--policy") :] for call in calls] == [["--policy", "mine"]] * 4


@pytest.mark.parametrize(("status", "trained"), [(130, "interrupted"), (0, "nothing, as with --dry-run")])
def test_a_run_that_did_not_finish_ends_the_study_and_leaves_the_page(status, trained, tmp_path, monkeypatch, capsys):
    calls = instead_of_processes(monkeypatch, lambda arguments: status)
    assert main(words(tmp_path)) == 2
    assert len(calls) == 1
    assert f"arpo-seed1 left no summary.json (exit status {status})" in said(capsys)
    assert (tmp_path / "PAGE.md").read_text(encoding="utf-8") == PAGE


# --- mistakes, found before any run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("", "README.md cannot be read (No such file or directory)"),
        ("--readme .", "--readme None prints the table only"),
        ("--readme page", f"page needs a line {study.BEGIN} and after it a line {study.END}"),
        ("--readme half", f"half needs a line {study.BEGIN} and after it a line {study.END}"),
        ("--readme turned", f"turned needs a line {study.BEGIN} and after it a line {study.END}"),
        ("--readme latin", "latin is not UTF-8"),
        ("--readme None --seeds", "--seeds is empty: give at least one, e.g. --seeds 1 2 3"),
    ],
)
def test_a_mistake_is_explained_before_any_run(arguments, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = {"page": "text", "half": study.BEGIN, "turned": f"{study.END}\n{study.BEGIN}"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    instead_of_processes(monkeypatch, refused)
    assert exit_status(["study", *arguments.split()]) == 2
    assert hint in said(capsys)
    assert {path.name for path in tmp_path.iterdir()} == {*files, "latin"}


# --- the table ---------------------------------------------------------------------------------------------


def test_the_table_by_hand():
    rows = [
        summary("arpo", 1, 0.25, success_after_greedy=1.0, success_closed_book=0.0, success_majority=0.0078125),
        summary("arpo", 2, 0.75, success_after_greedy=0.5, executed_tool_calls_per_prompt=30.5),
        summary("grpo", 1, 0.125, inherited_tool_calls_per_prompt=0.0),
    ]
    assert study.markdown(rows).splitlines()[2:] == [
        "| arpo | 0.500 (0.250 – 0.750) | 0.500 (0.250 – 0.750) | 0.500 (0.250 – 0.750) | 0.750 (0.500 – 1.000) | 0.000 "
        "| 25.2 | 10.0 |",
        "| grpo | 0.125 | 0.125 | 0.125 | 0.125 | – | 20.0 | 0.0 |",
        "",
        "Held-out success, mean over seeds 1, 2 (lowest – highest). Always giving the same answer reaches at most 0.008.",
    ]
    head, rule = (line.count("|") for line in study.markdown(rows).splitlines()[:2])
    assert head == rule == 9


def test_where_no_single_answer_is_known_the_table_says_nothing_of_it():
    assert study.markdown([summary("arpo", 1, 0.5)]).endswith("mean over seeds 1 (lowest – highest).")


def test_a_table_replaces_the_last_one_and_nothing_else():
    assert study.insert(PAGE, "new") == f"# Title\n\n{study.BEGIN}\nnew\n{study.END}\n\nafter\n"
    assert study.insert(study.insert(PAGE, "new"), "old") == PAGE
