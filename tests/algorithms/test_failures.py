"""Strategies and renderers that fail cost leaves, and each distinct failure is told once."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from rollout_toys import Coin, CountEnv, CountTool, Plan, calls_then_answer, grow, statuses
from test_door import failed
from test_rollout_failures import BAD, one_bad

from algorithms.branching import BranchPoint, Grow, NoBranching
from algorithms.metrics import failed_by_status
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import Encoded, ScriptedRenderer
from algorithms.rollout import RolloutError, collect
from algorithms.rollout.failures import Failures
from algorithms.rollout.run import Start
from algorithms.tree import RolloutTree, Status
from arpo_envs.errors import ConfigError

# --- strategies --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Coin):
    """Fails when it is asked for the n-th time."""

    on_plan: Any = None
    on_point: Any = None
    at: int = 0
    asked: list[int] = field(default_factory=list, compare=False)

    def _trouble(self, given: Any, usual: Any) -> Any:
        self.asked.append(1)
        if given is None or len(self.asked) <= self.at:
            return usual
        if isinstance(given, Exception):
            raise given
        return given

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Any:
        usual = super().plan(tree, left, rng)
        return self._trouble(self.on_plan, usual) if self.on_plan is not None else usual

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> Any:
        usual = super().on_result(point, rng)
        return self._trouble(self.on_point, usual) if self.on_point is not None else usual


@pytest.mark.parametrize("mode", ["deterministic", "free"])
@pytest.mark.parametrize("trouble", [ZeroDivisionError("no entropy"), "two", 1.5, math.nan], ids=str)
def test_a_strategy_that_fails_at_a_result_costs_one_leaf(trouble: Any, mode: str) -> None:
    strategy = Broken(4, 0.0, on_point=trouble, at=1)
    script = one_bad([])  # the first path alone is asked twice
    (tree,) = grow(CountTool(), Plan(strategy, 4), lambda before, seed: script(before, seed), mode=mode)
    faults = [n for n in tree.nodes if n.status is Status.BRANCHING_FAULT]
    assert len(faults) == 3, "the first point was decided"
    assert all("entropy" in n.fault or "whole number" in n.fault for n in faults)
    assert Status.ANSWERED in statuses(tree)


def test_a_strategy_that_always_fails_is_named_and_is_no_group_of_exceptions() -> None:
    tool = CountTool()
    with pytest.raises(RolloutError, match="ZeroDivisionError") as caught:
        grow(tool, Plan(Broken(2, on_point=ZeroDivisionError("no entropy")), 4), prompts=2)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert tool.opened == tool.closed


@pytest.mark.parametrize("trouble", [ZeroDivisionError("no plan"), None, 3, [None]], ids=str)
@pytest.mark.parametrize("at", [0, 1])
def test_a_strategy_that_fails_to_plan_costs_the_leaves_it_did_not_plan(trouble: Any, at: int) -> None:
    def everything() -> Any:
        plan = Plan(Broken(2, 0.0, on_plan=trouble if trouble is not None else (), at=at), 5)
        return grow(CountTool(), plan, prompts=1)

    if trouble is None:  # an empty plan is no failure
        assert len(everything()[0].leaves()) == 2 * at
    elif at == 0:
        with pytest.raises(RolloutError, match="All 5 paths failed"):
            everything()
    else:
        (tree,) = everything()
        assert sorted(statuses(tree)) == sorted([Status.ANSWERED] * 2 + [Status.BRANCHING_FAULT] * 3)
        assert [n.origin for n in tree.nodes if n.status is Status.BRANCHING_FAULT] == ["backfill"] * 3


def test_a_place_that_does_not_exist_is_the_users_mistake_even_if_other_paths_ended() -> None:
    plan = Plan(Broken(2, 0.0, on_plan=[Grow(99, 1, 1)], at=1), 5)
    with pytest.raises(ConfigError, match="the tree has"):
        grow(CountTool(), plan)


# --- text --------------------------------------------------------------------------------------------------


class Mute(ScriptedRenderer):
    """Cannot render what holds an x."""

    def start(self, instructions: str, task: str, tools: Any) -> tuple[int, ...]:
        if "Question a" in task:
            raise ValueError("cannot start")
        return super().start(instructions, task, tools)

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        if BAD in text:
            raise ValueError("cannot show")
        return super().observation(text, limit, ended=ended)

    def text(self, tokens: Any) -> str:
        text = super().text(tokens)
        if text == "<count>mute</count>":
            raise OverflowError("cannot read")
        return text


class Lettered(CountEnv):
    """Asks the first question of seed 0 and the second of all others."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed, options={"task": "a" if seed == 0 else "b"})


def test_text_that_cannot_be_rendered_costs_its_own_leaves() -> None:
    trees = grow(env=Lettered, renderer=Mute(), plan=Plan(rollouts=2), prompts=2)
    assert statuses(trees[0]) == [Status.RENDERER_FAULT] * 2
    assert statuses(trees[1]) == [Status.ANSWERED] * 2
    (tree,) = grow(CountTool(), Plan(rollouts=3), one_bad([]), renderer=Mute())
    leaf = failed(tree, Status.RENDERER_FAULT)
    assert leaf.fault == "ValueError: cannot show"
    above = tree.nodes[leaf.parent]
    assert (above.text, above.tool) == ("<count>bad</count>", "count"), "what was done before stands"
    (tree,) = grow(CountTool(), Plan(rollouts=3), muted([]), renderer=Mute())
    leaf = failed(tree, Status.RENDERER_FAULT)
    assert (leaf.fault, len(leaf.tokens), leaf.text) == ("OverflowError: cannot read", 19, "")


def muted(chosen: list[int]) -> Callable[[str, int], str]:
    script = one_bad(chosen)
    return lambda before, seed: script(before, seed).replace(BAD, "mute")


def test_one_question_longer_than_the_context_costs_one_prompt() -> None:
    class Long(Lettered):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            text, info = super().reset(seed=seed, options=options)
            return text * (50 if seed == 0 else 1), info

    policy = ScriptedPolicy(calls_then_answer(1), context_length=300)
    trees = grow(env=Long, script=policy, plan=Plan(Coin(2, 0.5), 4), prompts=3)
    assert statuses(trees[0]) == [Status.PROMPT_TOO_LONG] * 4
    assert all("The prompt has 551 tokens" in n.fault for n in trees[0].nodes if n.status is not None)
    assert set(statuses(trees[1]) + statuses(trees[2])) == {Status.ANSWERED}
    assert failed_by_status(trees)["failed_prompt_too_long"] == 4.0


# --- told once ---------------------------------------------------------------------------------------------


def test_a_tool_that_always_fails_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    def trouble(history: tuple[str, ...]) -> None:
        raise OSError(f"connection {len(history)} to 0x{id(history):x} refused")

    failures = Failures()
    run = collect(
        lambda: CountEnv(CountTool(hook=trouble)),  # type: ignore[arg-type]
        [Start(i) for i in range(5)],
        ScriptedPolicy(lambda before, seed: "<answer>1</answer>" if seed % 4 == 0 else "<count>x</count>"),
        ScriptedRenderer(),
        Plan(NoBranching(), 8),
        seed=0,
        failures=failures,
    )
    trees = asyncio.run(run)
    told = [record for record in caplog.records if record.name.startswith("algorithms")]
    assert len(told) == 1
    assert "connection 1 to 0x" in told[0].getMessage()
    assert told[0].exc_info is not None, "with its traceback"
    ((what, why, count),) = failures.counted()
    assert (what, why[:21], count) == ("tool_fault", "OSError: connection 1", failed_by_status(trees)["failed_tool_fault"])
    assert count > 20


def test_different_failures_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for error in (ValueError("a"), ValueError("a"), ValueError("b"), KeyError("a"), ValueError("a 1"), ValueError("a 2")):
        failures.note("tool_fault", error)
    failures.note("policy_fault", ValueError("a"))
    assert [count for _, _, count in failures.counted()] == [2, 2, 1, 1, 1]
    assert len(caplog.records) == 5


def test_an_error_that_cannot_be_shown_is_counted_all_the_same() -> None:
    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not me")

    failures = Failures(lambda what, error: None)
    failures.note("tool_fault", Shy())
    failures.note("tool_fault", ValueError("\ud800" * 5000))
    assert [why for _, why, _ in failures.counted()] == ["Shy", "ValueError: " + "?" * 387 + "…"]
