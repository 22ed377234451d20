"""What a strategy and a reader of a tree learn of a tool: its name, how it went, and what the model saw of it."""

import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest
from rollout_toys import Coin, CountEnv, CountTool, Plan, build, calls_then_answer, grow, node, shuffled
from test_tree import crafted, trees

from algorithms.advantages.paths import column
from algorithms.tree import NO_PARENT, RolloutTree, Status
from arpo_envs.tools import ToolResult


def failing(history: tuple[str, ...]) -> ToolResult | None:
    """The second call times out, the third finds nothing."""
    return {2: ToolResult("It took too long.", "timeout"), 3: ToolResult("", "no_results")}.get(len(history))


def test_a_branch_point_has_name_status_and_text_of_the_result() -> None:
    strategy = Coin(roots=1, probability=0.0)
    (tree,) = grow(CountTool(failing), Plan(strategy, 1), calls_then_answer(3))
    assert [(point.tool, point.status) for point in strategy.seen] == [
        ("count", "ok"),
        ("count", "timeout"),
        ("count", "no_results"),
    ]
    observations = [one.text for one in tree.nodes if one.kind == "observation"]
    assert [point.text for point in strategy.seen] == observations
    assert "1 of c0" in strategy.seen[0].text
    assert "It took too long." in strategy.seen[1].text
    assert [(one.tool, one.tool_status) for one in tree.nodes if one.kind == "action"] == [
        ("count", "ok"),
        ("count", "timeout"),
        ("count", "no_results"),
        ("", "answered"),
    ]
    assert tree.tool_calls().executed == 3, "an observation has no tool of its own: it would count twice"


def test_a_strategy_can_fork_where_a_tool_failed() -> None:
    class WhereItFailed(Coin):
        def on_result(self, point: Any, rng: Any) -> int:
            return int(point.status == "timeout")

    (tree,) = grow(CountTool(failing), Plan(WhereItFailed(roots=1), 2), calls_then_answer(3))
    (fork,) = [one for one in tree.nodes if one.origin == "branch"]
    result = tree.nodes[fork.parent]
    assert "It took too long." in result.text
    assert tree.nodes[result.parent].tool_status == "timeout"


def test_mistakes_and_limits_have_a_status_and_no_tool() -> None:
    def script(before: str, seed: int) -> str:
        done = before.count("</result>")
        return ("<nothing>x</nothing>", "<count>x</count>", "<count>y</count>", "<answer>1</answer>")[done if done < 4 else 3]

    (tree,) = grow(plan=Plan(rollouts=1), script=script, env=lambda: CountEnv(max_tool_calls=1))
    told = [(one.tool, one.tool_status) for one in tree.nodes if one.kind == "action"]
    assert set(told) >= {("", "mistake"), ("count", "ok"), ("", "answered")}
    assert set(told) <= {("", "mistake"), ("count", "ok"), ("", "limit"), ("", "answered")}


class Says(CountEnv):
    """Another environment, with whatever it likes in its info."""

    said: Any = None

    def step(self, action: str) -> Any:
        *rest, info = super().step(action)
        return *rest, {**info, **self.said}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"status": None, "tool": None}, ("", "")),
        ({"status": 7, "tool": 5}, ("5", "7")),
        ({"status": "bad \ud800", "tool": "\udfff"}, ("?", "bad ?")),
        ({"status": ValueError("no")}, ("count", "no")),
    ],
)
def test_whatever_an_environment_says_is_text_that_can_be_written(said: dict[str, Any], found: tuple[str, str]) -> None:
    kind = type("SaysSo", (Says,), {"said": said})
    (tree,) = grow(plan=Plan(rollouts=1), env=kind)
    assert (tree.nodes[1].tool, tree.nodes[1].tool_status) == found
    assert RolloutTree.from_json(tree.to_json()) == tree
    tree.to_json().encode("utf-8")


def test_an_environment_that_says_nothing_gives_empty_words() -> None:
    class Silent(CountEnv):
        def step(self, action: str) -> Any:
            *rest, info = super().step(action)
            return *rest, {"tool": info["tool"]}

    strategy = Coin(roots=1, probability=0.0)
    grow(plan=Plan(strategy, 1), env=Silent)
    assert [(point.tool, point.status) for point in strategy.seen] == [("count", "")]


# --- splitting and writing ------------------------------------------------------------------------------------


def with_statuses() -> RolloutTree:
    tree = crafted()
    tree.nodes = [replace(one, tool_status="timeout" if one.tool else "") for one in tree.nodes]
    return tree


def test_the_status_stays_with_the_end_of_an_action_that_is_split() -> None:
    frozen = with_statuses().freeze()
    told = {one.key: (one.tool, one.tool_status) for one in frozen.nodes if one.kind == "action"}
    assert told[(0,)] == ("", "")
    assert told[(0, 0)] == told[(0, 1)] == ("count", "timeout")
    assert RolloutTree.from_json(frozen.to_json()) == frozen


def test_trees_that_were_written_before_are_read() -> None:
    record = json.loads(with_statuses().to_json())
    for one in record["nodes"]:
        one.pop("tool_status", None)
    assert RolloutTree.from_json(json.dumps(record)) == crafted()
    assert "tool_status" not in crafted().to_json(), "what says nothing takes no room"


# --- along a path ---------------------------------------------------------------------------------------------


def test_golden_log_probabilities_of_the_crafted_tree() -> None:
    tree = crafted()
    assert tree.tokens(8) == [1, 2, 10, 13, 21, 22]
    assert tree.logprobs(8) == [0.0, 0.0, -0.75, -1.5, 0.0, 0.0]
    assert tree.sampled(8) == [False, False, True, True, False, False]


def test_columns_are_as_long_as_the_tokens_and_freezing_changes_none() -> None:
    from hypothesis import given, settings

    @given(trees())
    @settings(max_examples=40, deadline=None)
    def holds(tree: RolloutTree) -> None:
        for one in (tree, tree.freeze()):
            for leaf in one.leaves():
                columns = (one.tokens(leaf), one.logprobs(leaf), one.sampled(leaf))
                assert len({len(values) for values in columns}) == 1
                assert one.logprobs(leaf) == column(one, leaf, "logprobs").tolist()
                assert one.sampled(leaf) == column(one, leaf, "sampled").astype(bool).tolist()

    holds()


def test_a_leaf_without_tokens_has_the_columns_of_its_path() -> None:
    tree = build(node((), NO_PARENT, [1, 2]), node((0,), 0, [], status=Status.POLICY_FAULT))
    assert (tree.tokens(1), tree.logprobs(1), tree.sampled(1)) == ([1, 2], [0.0, 0.0], [False, False])


def test_every_field_of_a_node_survives_shuffling_and_freezing() -> None:
    import random

    tree = with_statuses()
    assert shuffled(tree, random.Random(3)).freeze().to_json() == tree.freeze().to_json()
    assert {one.name for one in dataclasses.fields(tree.nodes[0])} >= {"tool", "tool_status", "status", "text"}
