"""`arpo compare`: which runs it trains, that it goes on where it was killed, and what it says of them."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from algorithms.cli import compare, compare_progress, main, runs
from algorithms.cli.arms import arm_of, arms_of
from algorithms.cli.compare_plot import plot
from algorithms.cli.compare_progress import CompareProgress
from algorithms.cli.compare_results import CELLS, Comparison, Trained
from algorithms.cli.compare_words import markdown, sentence, table, verdict
from algorithms.cli.environments import folder_of
from algorithms.cli.runs import Run, train_all
from algorithms.evaluation import Contrast
from arpo_envs import ConfigError

pytestmark = pytest.mark.usefixtures("wide_terminal")
TINY = ["--env-args", "cities_per_country=4", "--prompts", "2", "--rollouts", "4", "--eval-questions", "4"]
TINY += ["--checkpoint-every", "2"]


def said(capsys) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def exit_status(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:
        return end.code


# --- arms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("grpo", ["--algorithm", "grpo"]),
        ("arpo:alpha=auto", ["--algorithm", "arpo", "--algorithm-args", "alpha=auto"]),
        ("arpo:probe=8,alpha=0.3", ["--algorithm", "arpo", "--probe", "8", "--algorithm-args", "alpha=0.3"]),
        ("my.part:best", ["--algorithm", "my.part:best"]),
        ("my.part:best:sizes=(1,2),rest=a", ["--algorithm", "my.part:best", "--algorithm-args", "sizes=(1,2)", "rest=a"]),
    ],
)
def test_an_arm_is_an_algorithm_with_options(word, words):
    assert arm_of(word).words == words
    assert arm_of(word).name == word
    assert "/" not in arm_of(word).folder
    assert ":" not in arm_of(word).folder


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["arpo"], "at least two arms"),
        (["arpo", "grpo", "arpo"], "Two arms are the same"),
        (["arpo", "grpo:=3"], "'grpo:=3' is not an arm"),
    ],
)
def test_what_is_no_comparison_is_refused(words, hint):
    with pytest.raises(ConfigError, match=hint):
        arms_of(words)


# --- mistakes, found before any run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("arpo grpo --seeds 1 1", "--seeds needs at least one value, and each only once"),
        ("arpo grpo --envs", "--envs needs at least one value"),
        ("arpo grpo --budget-calls 0", "budget_calls must be at least 1"),
        ("arpo grpo --train --seed 3", "--seed cannot follow --train"),
        ("arpo grpo --train --prompts 2 --budget_calls=7", "--budget-calls cannot follow --train"),
        ("arpo gprpo", "Did you mean 'grpo'?"),
        ("arpo arpo:aplha=1", "aplha"),
        ("arpo grpo --train --decay linear", "--decay ends at --steps"),
    ],
)
def test_a_mistake_is_explained_before_any_run(words, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_status(["compare", *words.split()]) == 2
    assert hint in said(capsys)
    assert not list(tmp_path.iterdir())


def config(folder: Path, **more: Any) -> compare.CompareConfig:
    return compare.CompareConfig(("arpo", "grpo"), output=folder, **more)


def test_the_arms_of_a_seed_share_its_start_and_differ_in_nothing_else(tmp_path):
    given = config(tmp_path, seeds=(1, 2), cold_start="fresh", train=("--prompts", "5"))
    found = compare.runs_of(given, arms_of(given.arms))
    names = ["arpo-seed1", "grpo-seed1", "arpo-seed2", "grpo-seed2"]
    assert [run.folder.name for run in found] == names
    for one, other in (found[:2], found[2:]):
        assert one.after == other.after
        assert dict(pairwise(one.after.words))["--cold-start"] == "fresh"
        assert [word for word in one.words if word != "arpo"] == [word for word in other.words if word != "grpo"]
        assert dict(pairwise(one.words))["--policy"] == str(one.after.folder / "cold_start")
    assert [dict(pairwise(run.words))["--seed"] for run in found] == ["1", "1", "2", "2"]


def test_environments_whose_names_end_alike_have_folders_of_their_own(tmp_path):
    mixed = ("ARPO/Search-v0=3,ARPO/SearchMini-v0=1", "ARPO/Search-v0=1,ARPO/SearchMini-v0=1")
    given = config(tmp_path, seeds=(1,), envs=("ARPO/SearchMini-v0", *mixed))
    assert len({run.folder for run in compare.runs_of(given, arms_of(given.arms))}) == 6
    assert folder_of("mine/Search-v0") != folder_of("ARPO/Search-v0") == "Search-v0"


def test_a_policy_of_ones_own_is_everyones_start(tmp_path):
    own = str(tmp_path)  # its files are only read when it is trained
    given = config(tmp_path, seeds=(1,), train=("--policy", own))
    for run in compare.runs_of(given, arms_of(given.arms)):
        assert run.after is None
        assert dict(pairwise(run.words))["--policy"] == own


def test_running_side_by_side_is_remembered_and_more_seeds_are_no_other_setting(tmp_path):
    was_alone = [
        compare._settled(config(tmp_path, parallel=count), left)[0] for count, left in ((1, True), (2, False), (2, True))
    ]
    assert was_alone == [True, True, False]
    assert compare._settled(config(tmp_path, seeds=(8, 9)), True) == (False, [])
    with pytest.raises(ConfigError, match="begun with train "):
        compare._settled(config(tmp_path, train=("--prompts", "2")), True)


def test_a_folder_in_which_another_comparison_is_at_work_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "_PATIENCE", 0.0)
    console = Console(quiet=True)
    with compare._alone(tmp_path, console):
        second = compare._alone(tmp_path, console)
        with pytest.raises(ConfigError, match="is at work in"):
            second.__enter__()
    with compare._alone(tmp_path, console):
        assert (tmp_path / "lock").is_file()


# --- runs ----------------------------------------------------------------------------------------------------


def test_a_run_is_begun_continued_or_begun_anew(tmp_path):
    run = Run(tmp_path / "run", ("--steps", "3"))
    begun = ["train", "--output", str(run.folder), "--steps", "3"]
    assert run.words_to_finish() == begun
    run.folder.mkdir()
    (run.folder / ".config.json.tmp").write_text("{", encoding="utf-8")
    assert run.words_to_finish() == begun, "killed before it began: there is nothing to continue"
    assert not run.folder.exists()
    run.folder.mkdir()
    (run.folder / "config.json").write_text("{}", encoding="utf-8")
    assert run.words_to_finish() == ["train", "--resume", str(run.folder)]


def instead_of_python(monkeypatch, folder: Path, script: str) -> None:
    """Runs a shell script instead of `python -m … PID train --output FOLDER …`, so that FOLDER is its sixth argument."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(runs, "sys", SimpleNamespace(executable=str(program)))
    monkeypatch.setattr(runs, "_PAUSE", 0.01)


def train_together(given: list[Run], parallel: int = 1, look=lambda busy: None) -> list[str]:
    """Trains runs, and returns the names of those that finished."""
    done: list[Run] = []
    with tempfile.TemporaryFile() as lock:
        train_all(given, parallel, command="arpo compare", locked=lock.fileno(), look=look, done=done.append)
    return [run.folder.name for run in done]


def test_a_run_that_fails_ends_the_comparison_with_what_it_said(tmp_path, monkeypatch):
    instead_of_python(monkeypatch, tmp_path, 'echo "no $7 here"; exit 2')
    given = [Run(tmp_path / name, ("--thing",)) for name in ("one", "two")]
    with pytest.raises(ConfigError, match=r"one left no summary.json \(exit status 2\)(.|\n)*no --thing here"):
        train_together(given)
    assert not (tmp_path / "two.log").exists(), "the next one was not begun"


def test_a_run_begins_when_the_one_it_waits_for_is_finished(tmp_path, monkeypatch):
    script = 'mkdir "$6"; ls "$6/.." > "$6/seen"; echo "{}" > "$6/summary.json"'
    instead_of_python(monkeypatch, tmp_path, script)
    start = Run(tmp_path / "start", ())
    given = [*(Run(tmp_path / name, (), start) for name in ("one", "two")), start]
    busiest: list[int] = []
    names = train_together(given, 2, lambda busy: busiest.append(len(busy)))
    assert sorted(names) == ["one", "start", "two"]
    assert max(busiest) == 2
    assert "one" not in (tmp_path / "start" / "seen").read_text(encoding="utf-8").split()
    assert train_together(given) == [], "nothing is left to do"


def test_no_run_is_left_behind_when_the_comparison_ends(tmp_path, monkeypatch):
    instead_of_python(monkeypatch, tmp_path, 'echo $$ > "$6.part"; mv "$6.part" "$6.pid"; exec sleep 60')
    pid = tmp_path / "run.pid"

    def interrupts(busy: list[Run]) -> None:
        if pid.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_together([Run(tmp_path / "run", ())], 1, interrupts)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text(encoding="utf-8")), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a run goes on alone")
@pytest.mark.parametrize("when", ["before it began", "later"])
def test_a_run_ends_with_the_process_that_started_it(when, tmp_path):
    tied = "from algorithms.cli.tied import end_with; import os, time; end_with(int(sys.argv[1]))"
    child = f"import sys; {tied}; print('began', flush=True); time.sleep(5); print('went on')"
    if when == "before it began":
        done = subprocess.run([sys.executable, "-c", child, "1"], capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")
        return
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())])"
    parent = [sys.executable, "-c", f"import os, subprocess, sys, time; {start}; time.sleep(60)"]
    with subprocess.Popen(parent, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"began\n"
        process.kill()
        assert process.stdout.read() == b"", "the pipe ends with the last process that holds it"


def test_lines_about_runs_for_those_who_have_no_terminal(tmp_path, monkeypatch):
    given = [Run(tmp_path / name, ()) for name in ("one", "two")]
    for run in given:
        run.folder.mkdir()
        (run.folder / "metrics.jsonl").write_text('{"tool_calls": 30.0}\n', encoding="utf-8")
    (given[0].folder / "summary.json").write_text('{"success_after_sampled": 0.5}', encoding="utf-8")
    console = Console(record=True, width=120, file=io.StringIO())
    with CompareProgress(console, given, 100) as progress:
        progress.look([given[1]])
        progress.done(Run(tmp_path / "start", ()))
        monkeypatch.setattr(compare_progress, "_QUIET", 0.0)
        progress.look([given[1], Run(tmp_path / "start-seed2", ())])
        (given[1].folder / "summary.json").write_text('{"success_after_sampled": 0.25}', encoding="utf-8")
        progress.done(given[1])
    lines = console.export_text().splitlines()
    assert [line.split("s  ", 1)[1] for line in lines] == [
        "start: made",
        "two: 30 of 100 tool calls; start-seed2: being made",
        "two: held-out success 0.250 (2 of 2 runs)",
    ]


# --- what is found -------------------------------------------------------------------------------------------


def trained(arm: str, seed: int, success: float, rewards=(0.0, 1.0), calls=(10.0, 30.0), env: str = "Env-v0") -> Trained:
    costs = {"calls": calls, "tokens": tuple(2 * one for one in calls), "seconds": (1.0,) * len(calls)}
    return Trained(env, arm, seed, rewards, costs, 0.25, success, 1.0)


def compared(seeds: int = 7, *, alone: bool = True, envs=("Env-v0",)) -> Comparison:
    """Returns a comparison in which arpo is a tenth above grpo in every pair, and learns with half of the calls."""
    runs = []
    for env in envs:
        for seed in range(seeds):
            runs.append(trained("arpo", seed, 0.5 + seed / 100, calls=(10.0, 30.0), env=env))
            runs.append(trained("grpo", seed, 0.4 + seed / 100, calls=(20.0, 30.0), env=env))
    return Comparison(runs, ["arpo", "grpo"], 40, alone)


def test_measures_by_hand():
    found = compared(1).measures()
    assert list(found) == ["success", "reward_by_calls", "reward_by_tokens", "reward_by_seconds"]
    assert found["success"] == {"arpo": {("Env-v0", 0): 0.5}, "grpo": {("Env-v0", 0): 0.4}}
    assert found["reward_by_calls"]["arpo"]["Env-v0", 0] == 30 / 40
    assert found["reward_by_calls"]["grpo"]["Env-v0", 0] == 20 / 40, (
        "of the last step only what lies within the common 40 calls"
    )
    assert found["reward_by_seconds"]["arpo"]["Env-v0", 0] == 0.5
    assert "reward_by_seconds" not in compared(1, alone=False).measures()


def test_a_run_without_a_tool_call_is_compared_by_other_costs():
    runs = [trained(arm, 1, 0.5, calls=(0.0, 0.0)) for arm in ("arpo", "grpo")]
    found = Comparison(runs, ["arpo", "grpo"], 40, True)
    assert list(found.measures()) == ["success", "reward_by_seconds"]
    assert [*found.document()["curves"]["Env-v0"]] == ["seconds"]


def test_curves_end_at_the_common_cost_and_average_to_the_measure():
    found = compared(3)
    edges, arms = found.curves("Env-v0", "calls")
    assert (edges[0], edges[-1], len(edges)) == (0.0, 40.0, CELLS + 1)
    for arm, (reward, low, high) in arms.items():
        assert reward.mean() == pytest.approx(found.measures()["reward_by_calls"][arm]["Env-v0", 0])
        assert (low <= reward + 1e-12).all()
        assert (reward <= high + 1e-12).all()


def test_the_verdict_by_hand():
    lines = verdict(compared(7))
    assert lines[:3] == [
        "Held-out success after 40 executed tool calls, 7 seeds:",
        "",
        "- arpo is above grpo by 0.100 (95% interval 0.100 to 0.100, p = 0.016 after Holm).",
    ]
    assert not any("no difference can be shown" in line for line in lines)
    few = verdict(compared(3))
    assert few[2].startswith("- No difference between arpo and grpo is shown: +0.100")
    assert few[-1] == "With 3 pairs of runs no difference can be shown, however large: that takes 6."


def test_sentences_say_which_side_is_above_and_what_is_open():
    contrast = Contrast("arpo", "grpo", -0.02, -0.03, -0.01, 0.0156, 0.0312, 7)
    assert sentence(contrast) == "arpo is below grpo by 0.020 (95% interval 0.010 to 0.030, p = 0.031 after Holm)."
    open_ = Contrast("arpo", "grpo", -0.02, -0.05, 0.01, 0.4, 0.8, 7)
    assert sentence(open_) == (
        "No difference between arpo and grpo is shown: −0.020 (95% interval −0.050 to +0.010, p = 0.800 after Holm)."
    )
    single = contrasts_of_one()
    assert sentence(single) == "arpo less grpo is +0.100 in the only pair of runs, which shows nothing."


def test_with_one_pair_in_each_of_several_environments_there_is_no_interval_but_a_test():
    contrast = compared(1, envs=tuple(f"Env{number}-v0" for number in range(7))).contrasts()["success"][0]
    said_so = "(one pair of runs in some environment, so no interval; p = 0.016 after Holm over 7 pairs)"
    assert sentence(contrast) == f"arpo less grpo is +0.100 {said_so}."


def contrasts_of_one() -> Contrast:
    return compared(1).contrasts()["success"][0]


def test_the_table_by_hand():
    head, _, first, second = table(compared(1))
    assert head.count("|") == first.count("|") == second.count("|") == 12
    assert first == "| arpo | 0.250 | 0.500 | 1.000 | 0.750 | 0.750 | 0.500 | 2.0 | 40 | 80 | 2 |"


def test_several_environments_have_rows_of_their_own_and_are_pooled_in_the_verdict():
    both = compared(3, envs=("One-v0", "Two-v0"))
    assert [line.split(" | ")[0] for line in table(both)[2:]] == [
        *("| arpo", "| grpo", "| arpo, One-v0", "| grpo, One-v0", "| arpo, Two-v0", "| grpo, Two-v0")
    ]
    assert both.contrasts()["success"][0].pairs == 6
    assert "3 seeds of 2 environments" in markdown(both)


def test_the_page_says_what_is_not_equal():
    short = Comparison([trained("arpo", 1, 0.5), trained("grpo", 1, 0.5)], ["arpo", "grpo"], 50, False)
    text = markdown(short)
    assert "arpo, seed 1: its steps ran out after 40 tool calls, before the budget." in text
    assert "their seconds say nothing and are not compared" in text
    assert "seconds say nothing" not in markdown(compared(2))


@pytest.mark.parametrize(
    ("seeds", "envs"), [pytest.param(1, ("Env-v0",), marks=pytest.mark.slow), (2, ("One-v0", "Two-v0"))], ids=["one", "two"]
)
def test_a_comparison_is_drawn(seeds, envs, tmp_path):
    plot(tmp_path / "one.png", compared(seeds, envs=envs))
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_the_document_is_plain_json_and_has_every_run():
    found = json.loads(json.dumps(compared(2).document()))
    assert [run["arm"] for run in found["runs"]] == ["arpo", "grpo"] * 2
    assert found["contrasts"]["success"][0]["difference"] == pytest.approx(0.1)


# --- for real ------------------------------------------------------------------------------------------------


def words(policy: Path, folder: Path, *more: str) -> list[str]:
    own = ["compare", "arpo", "grpo", "--seeds", "1", "2", "--budget-calls", "60", "--output", str(folder), *more]
    return [*own, "--train", "--policy", str(policy), *TINY]


def without_clock(folder: Path) -> Mapping[str, Any]:
    """Returns the numbers of a comparison that do not depend on the clock."""

    def cleared(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cleared(one) for name, one in value.items() if "seconds" not in name and name != "runs_alone"}
        return [cleared(one) for one in value] if isinstance(value, list) else value

    return cleared(json.loads((folder / "comparison.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def whole(tiny_policy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compare") / "whole"
    assert main(words(tiny_policy, folder)) == 0
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_arms_and_two_seeds_for_real(whole, tiny_policy, tmp_path):
    found = json.loads((whole / "comparison.json").read_text(encoding="utf-8"))
    assert [(run["arm"], run["seed"]) for run in found["runs"]] == [("arpo", 1), ("grpo", 1), ("arpo", 2), ("grpo", 2)]
    for run in found["runs"]:
        assert run["calls"] >= 60
        steps = (whole / "SearchMini-v0" / f"{run['arm']}-seed{run['seed']}" / "metrics.jsonl").read_text(encoding="utf-8")
        calls = [json.loads(line)["tool_calls"] for line in steps.splitlines()]
        assert sum(calls[:-1]) < 60, "it ended with the first step that reached the budget"
    first, other = (run["success_before"] for run in found["runs"][:2])
    assert first == other, "the same start, and the same held-out questions"
    assert (whole / "comparison.png").is_file()
    assert (whole / "comparison.md").read_text(encoding="utf-8").startswith("Held-out success after 60 executed tool calls")
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy, symlinks=True)
    assert main(words(tiny_policy, copy, "--parallel", "2")) == 0, "there is nothing left to do"
    assert (copy / "comparison.json").read_bytes() == (whole / "comparison.json").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_comparison_goes_on_and_ends_with_the_same_numbers(whole, tiny_policy, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "algorithms.cli", *words(tiny_policy, folder, "--parallel", "2")]
    for kill in (os.kill, os.killpg):  # first it alone, then with all of its runs
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            steps = len(list(folder.glob("*/*/metrics.jsonl")))
            deadline = time.monotonic() + 120
            while len(list(folder.glob("*/*/metrics.jsonl"))) <= steps and time.monotonic() < deadline:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
        finally:
            kill(process.pid, signal.SIGKILL)
            process.wait()
    assert not (folder / "comparison.json").exists()
    assert main(words(tiny_policy, folder)) == 0
    assert without_clock(folder) == without_clock(whole)
