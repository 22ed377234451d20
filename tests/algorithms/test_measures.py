"""What an environment measures of an episode reaches the leaf, the means and the pages; without measures nothing changes."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from rollout_toys import Coin, CountEnv, CountTool, Plan, build, calls_then_answer, grow, node, results

from algorithms.cli import main
from algorithms.evaluation import evaluate, wilson
from algorithms.evaluation.intervals import mean_interval
from algorithms.metrics import measures, summarise
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout.run import Start
from algorithms.tree import RolloutTree, Status


class Measured(CountEnv):
    """Counts its calls, and says whether the answer was right once there is one."""

    def measures(self) -> dict[str, float]:
        _, info = self.last()
        return {"calls": info["tool_calls"]} | ({"right": info["success"]} if "success" in info else {})


class Renamed(gym.Wrapper[str, str, str, str]):
    def measures(self) -> dict[str, float]:
        return {f"my {name}": number for name, number in self.env.get_wrapper_attr("measures")().items()}


def measured() -> Measured:
    return Measured(CountTool())


def some(before: str, seed: int) -> str:
    return f"<answer>{seed % 2}</answer>" if results(before) >= 1 + seed % 3 else f"<count>{seed % 10}</count>"


def by_leaf(tree: RolloutTree) -> list[dict[str, float]]:
    return [dict(tree.nodes[leaf].measures or {}) for leaf in tree.leaves()]


def calls_on(tree: RolloutTree, leaf: int) -> int:
    return sum(bool(tree.nodes[n].tool) and stop == len(tree.nodes[n].tokens) for n, stop in tree.path(leaf))


@pytest.mark.parametrize("wrap", [lambda env: env, gym.Wrapper, Renamed])
def test_each_leaf_of_a_tree_with_forks_has_its_own(wrap: Any) -> None:
    trees = grow(env=lambda: wrap(measured()), plan=Plan(Coin(roots=2, probability=0.6), 8), script=some, prompts=3)
    prefix, found = "my " if wrap is Renamed else "", []
    for tree in trees:
        assert all(one.measures is None for one in tree.nodes if one.status is None)
        for leaf in tree.leaves():
            end = tree.nodes[leaf]
            assert end.measures == {f"{prefix}calls": calls_on(tree, leaf), f"{prefix}right": end.success}
            found.append(end.measures[f"{prefix}calls"])
        assert RolloutTree.from_json(tree.to_json()) == tree
    assert len(set(found)) > 1
    assert any(one.origin == "branch" for tree in trees for one in tree.nodes)


def test_an_episode_without_room_is_measured_and_one_that_failed_is_not() -> None:
    policy = ScriptedPolicy(calls_then_answer(50), context_length=200)
    (tree,) = grow(env=measured, script=policy, plan=Plan(rollouts=1), answer_reserve=1)
    (end,) = (tree.nodes[leaf] for leaf in tree.leaves())
    assert end.status is Status.CONTEXT_FULL
    assert end.measures == {"calls": calls_on(tree, tree.leaves()[0])}

    def broken(history: tuple[str, ...]) -> None:
        if history[-1] == "7":
            raise OSError("flaky")

    trees = grow(env=lambda: Measured(CountTool(hook=broken)), plan=Plan(rollouts=16), script=some)
    ends = [tree.nodes[leaf] for tree in trees for leaf in tree.leaves()]
    assert [end.measures is None for end in ends] == [end.status is Status.TOOL_FAULT for end in ends]
    assert len({end.status for end in ends}) == 2


@pytest.mark.parametrize("wrong", [{"calls": math.nan}, {"calls": "many"}, {3: 1.0}, [1.0], None])
def test_what_is_no_number_costs_its_leaf_which_says_so(wrong: Any) -> None:
    class Wrong(Measured):
        def measures(self) -> Any:
            return wrong if self.last()[1]["success"] else super().measures()

    (tree,) = grow(env=lambda: Wrong(CountTool()), plan=Plan(rollouts=12), script=some)
    ends = [tree.nodes[leaf] for leaf in tree.leaves()]
    faults = [end for end in ends if end.status is Status.TOOL_FAULT]
    assert 0 < len(faults) < len(ends)
    assert all("number" in end.fault and end.measures is None for end in faults)
    with pytest.raises(ValueError, match="must be finite"):
        build(node((), -1, [1]), node((0,), 0, [2], status=Status.ANSWERED, measures={"calls": math.nan}))


def batch() -> list[RolloutTree]:
    def leaf(key: int, status: Status, **numbers: float) -> Any:
        return node((key,), 0, [1], origin="root", status=status, reward=0.0, measures=numbers or None)

    one = build(
        node((), -1, [9]),
        leaf(0, Status.ANSWERED, efficiency=0.5, clicks=4.0),
        leaf(1, Status.TRUNCATED, efficiency=0.0),
        leaf(2, Status.TOOL_FAULT, efficiency=1.0),
        leaf(3, Status.ANSWERED),
    )
    return [one, build(node((), -1, [9]), leaf(0, Status.CONTEXT_FULL, efficiency=1.0, clicks=2.0))]


def test_means_by_hand() -> None:
    assert measures(batch()) == {"clicks": [4.0, 2.0], "efficiency": [0.5, 0.0, 1.0]}
    found = summarise(batch())
    assert list(found)[-2:] == ["env/clicks", "env/efficiency"]
    assert (found["env/clicks"], found["env/efficiency"]) == (3.0, 0.5)


def test_an_action_that_is_forked_inside_was_measured_at_its_end() -> None:
    tree = build(
        node((), -1, [9]),
        node((0,), 0, [1, 2], origin="root", status=Status.ANSWERED, measures={"clicks": 2.0}),
        node((1,), 1, [3], parent_at=1, origin="branch", status=Status.ANSWERED, measures={"clicks": 1.0}),
    )
    assert [one.measures for one in tree.nodes] == [None, None, {"clicks": 2.0}, {"clicks": 1.0}]


def test_intervals() -> None:
    assert mean_interval([1.0, 0.0, 1.0, 1.0]) == wilson(3, 4)
    assert mean_interval([]) == wilson(0, 0)
    low, high = mean_interval([1.0, 3.0])  # the deviation is the root of 2, the error of the mean 1
    assert (low, high) == (pytest.approx(2.0 - 1.96), pytest.approx(2.0 + 1.96))
    assert mean_interval([5.0]) == (-math.inf, math.inf)


def test_an_evaluation_has_means_and_intervals() -> None:
    starts = [Start(seed) for seed in range(6)]
    out = asyncio.run(evaluate(measured, starts, ScriptedPolicy(some), ScriptedRenderer(), seed=1))
    assert out.intervals.keys() == {"env/calls", "env/right"}
    assert out.intervals["env/right"] == out.interval
    assert out.metrics["env/right"] == pytest.approx(out.success)
    without = asyncio.run(evaluate(CountEnv, starts, ScriptedPolicy(some), ScriptedRenderer(), seed=1))
    assert without.intervals == {}
    assert not any("measures" in tree.to_json() for tree in without.trees)
    assert [[*map(len, by_leaf(tree))] for tree in out.trees] == [[2]] * 6


def test_the_efficiency_of_a_browser_is_in_what_the_commands_say_and_write(
    tiny_policy: Path, tmp_path: Path, capsys: Any, wide_terminal: None
) -> None:
    browser = ["--env", "ARPO/Browser-v0"]
    file, run = tmp_path / "eval.json", tmp_path / "run"
    small = ["--questions", "3", "--args", "cities_per_country=10", "split=test", "--json", str(file)]
    assert main(["eval", "--policy", str(tiny_policy), *browser, *small]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if " efficiency " in line)
    assert " ".join(row.replace("│", " ").split()) == "efficiency 0.000 95% interval 0.000 – 0.562"
    record = json.loads(file.read_text(encoding="utf-8"))
    assert [record[f"env/efficiency{end}"] for end in ("", "_low")] == [0.0, 0.0]
    words = ["--prompts", "2", "--rollouts", "2", "--eval-questions", "2", "--env-args", "cities_per_country=10"]
    words += ["--steps", "2", "--output", str(run)]
    assert main(["train", "--policy", str(tiny_policy), *browser, *words]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["env/efficiency"] for line in lines] == [0.0, 0.0]
    after = json.loads((run / "after.json").read_text(encoding="utf-8"))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    kept = {name for name in summary if "env/" in name}
    parts = ("", "_interval")
    ways = [f"{way}_env/efficiency{part}" for way in ("sampled", "greedy") for part in parts]
    assert kept == {f"{way}_{when}" for way in ways for when in ("before", "after")}
    assert all(summary[f"{way}_after"] == after[way] for way in ways)
    assert after["greedy_env/efficiency"] == after["greedy_env/efficiency_interval"][0] == 0.0
