"""`arpo entropy`: of a policy, of a run's trees, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_entropy_profile import chain

from algorithms.cli import main
from algorithms.models.loading import load_policy
from algorithms.policies.local import LocalPolicy
from algorithms.tracking.trees import write_trees


class Scaled(LocalPolicy):
    """Our own engine with other entropies."""

    factor, asked = 1.0, 0

    async def generate(self, context, params, *, seed, offset=0, tail=""):
        Scaled.asked += 1
        found = await super().generate(context, params, seed=seed, offset=offset, tail=tail)
        return replace(found, entropies=tuple(self.factor * entropy for entropy in found.entropies))


def scaled(*, folder: Path, tokenizer: Any, context_length: int, device: str, factor: float = 1.0) -> Scaled:
    policy = Scaled(load_policy(folder)[0], tokenizer, device=device, context_length=context_length)
    policy.factor = factor
    return policy


def stored(folder: Path, trees) -> str:
    write_trees(folder / "trees.jsonl.zst", trees)
    return str(folder)


def test_the_stored_start_on_a_few_questions(tmp_path, capsys):
    words = ["--policy", "embedded", "--questions", "3", "--samples", "2", "--output", str(tmp_path)]
    assert main(["entropy", *words]) == 0
    record = json.loads((tmp_path / "entropy.json").read_text(encoding="utf-8"))
    assert record["tools"]["search"]["results"] > 0
    assert record["tools"]["search"]["at"]["1"]["mean"] > 0
    assert record["estimate"] == "Entropies are those of the full vocabulary."
    assert (tmp_path / "entropy.png").read_bytes().startswith(b"\x89PNG")
    assert "search" in capsys.readouterr().out
    assert (tmp_path / "SearchMini-v0" / "cold_start" / "config.json").is_file(), "of this environment alone"


def test_trees_are_read_without_a_policy(tmp_path, capsys):
    run = stored(tmp_path, [chain(1, [1.0], [2.0]), chain(2, [1.0], [3.0], "python")])
    assert main(["entropy", "--run", run, "--output", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "entropy.json").read_text(encoding="utf-8"))
    assert [record["tools"][name]["at"]["1"]["mean"] for name in ("python", "search")] == [3.0, 2.0]
    assert record["tools"]["python"]["at"]["1"]["low"] is None
    assert "does not say whether" in " ".join(capsys.readouterr().out.split())


def test_several_tools_fit_into_a_terminal_of_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    tools = ("browser.open", "browser.search", "python")
    trees = [chain(n, [1.0] * 20, [2.0 + n] * 20, tool) for n in (1, 2, 3) for tool in tools[: 4 - n]]
    assert main(["entropy", "--run", stored(tmp_path, trees), "--output", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out.partition("mean of the first")[0]
    assert all(f"{name}  " in table for name in tools)
    assert "3 results" in table
    assert "1 result " in table
    assert "…" not in table


@pytest.mark.parametrize(
    ("trees", "reason"),
    [
        ([chain(1, [0.0], [0.0])], "every entropy is 0"),
        ([chain(1, [1.0], [1.0], "")], "no tool was called"),
        ([], "sampled no token"),
    ],
)
def test_where_there_is_nothing_to_plot_it_says_so(trees, reason, tmp_path, capsys):
    assert main(["entropy", "--run", stored(tmp_path, trees), "--output", str(tmp_path / "out")]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "either --policy"),
        ("--policy embedded --run .", "either --policy"),
        ("--run . --env ARPO/SearchMini-v0", "--env would have no effect"),
        ("--run . --engine vllm", "--engine would have no effect"),
        ("--policy embedded --engine-args dtype=float32", "local does not take 'dtype'"),
        ("--policy embedded --policy-args word=y", "--policy-args would have no effect"),
        ("--policy embedded --model-folder x", "--model-folder would have no effect"),
        ("--run nowhere", "There is no file nowhere"),
        ("--policy embedded --temperature 0", "temperature must be above 0"),
        ("--policy embedded --tokens 0", "tokens must be at least 1"),
    ],
)
def test_mistakes_are_explained(words, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["entropy", *words.split()])
    except SystemExit as end:  # options are checked where they are parsed
        status = end.code
    assert status == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_policy_without_entropies_is_named_after_the_first_question(tiny_policy, tmp_path, capsys):
    words = ["--policy", "test_cli_entropy:scaled", "--model-folder", str(tiny_policy), "--action-tokens", "8"]
    words += ["--questions", "6", "--samples", "1", "--context-length", "256", "--output", str(tmp_path / "out")]
    refused, asked = "every entropy is 0. The policy test_cli_entropy:scaled gives none", {}
    for factor in (0, 1):
        Scaled.asked = 0
        main(["entropy", *words, "--policy-args", f"factor={factor}"])
        assert (refused in " ".join(capsys.readouterr().err.split())) == (factor == 0)
        asked[factor] = Scaled.asked
    assert 0 < asked[0] < asked[1], "the other five are not asked"
