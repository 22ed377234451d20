"""A tree whose tool was lost is grown again, from its beginning: the same tree, a few times at most, counted once."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import (
    COUNT,
    Coin,
    CountEnv,
    CountSession,
    CountTool,
    History,
    One,
    Plan,
    calls_then_answer,
    grow,
    numeric,
    results,
    varied,
)
from test_rollout_growth import Scheduled, find

from algorithms.branching import Grow
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Collected, Ended, Failures, Limits, Start, batch, is_lost, try_collect
from algorithms.rollout.batch import neighbours_for
from algorithms.tree import RolloutTree, Status, total_tool_calls
from arpo_envs import CloneError, ConfigError, Stateless, Task, ToolFault, ToolLost
from arpo_envs.core import ToolEnv
from arpo_envs.tools import ToolResult
from arpo_envs.tools.cache import Answers, Recorder, Replayer, Store, answer_tools

PLAN = Plan(Coin(roots=2, probability=0.5), rollouts=4)


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batch, "_FIRST_WAIT", 0.0)
        yield


def strikes(error: Exception, when: Callable[[int], bool]) -> CountTool:
    """Returns a tool that raises at the calls, counted from 0, for which `when` is true."""
    calls = count()

    def hook(history: History) -> ToolResult | None:
        if when(next(calls)):
            raise error
        return None

    return CountTool(hook=hook)


def grown(
    tool: CountTool, failures: Failures | None = None, prompts: int = 3, ended: Ended | None = None, **limits: int
) -> Collected:
    policy, renderer, starts = ScriptedPolicy(varied), ScriptedRenderer(), [Start(seed=i) for i in range(prompts)]
    told = {"seed": 3, "step": 5, "first": 2, "failures": failures or Failures(lambda what, error: None)}
    told["ended"] = ended
    return asyncio.run(try_collect(lambda: CountEnv(tool), starts, policy, renderer, PLAN, limits=Limits(**limits), **told))  # type: ignore[arg-type]


class Shared(CountTool):
    """A tool whose sessions live in one server; episodes of some tasks take it down with a call, each time.

    Args:
        killers: their tasks.
        depth: which call of a path does it.
    """

    def __init__(self, killers: str = "", depth: int = 1) -> None:
        super().__init__()
        self.killers, self.depth, self.servers = killers, depth, 0

    def open(self, task: Task, rng: np.random.Generator) -> "Served":
        return Served(self, (), rng, task.id in self.killers)


class Served(CountSession):
    """A session in the server that runs when it is made."""

    tool: Shared

    def __init__(self, tool: Shared, history: History, rng: np.random.Generator, kills: bool) -> None:
        super().__init__(tool, history, rng)
        self.kills, self.server = kills, tool.servers

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        if self.kills and self.server == self.tool.servers and len(self.history) + 1 == self.tool.depth:
            self.tool.servers += 1
        if self.server != self.tool.servers:
            raise ToolLost("the server has died")
        return super().call(name, arguments, timeout=timeout)

    def _clone(self) -> "Served":
        rng = np.random.default_rng(0)
        rng.bit_generator.state = self.rng.bit_generator.state
        twin = Served(self.tool, self.history, rng, self.kills)
        twin.server = self.server
        return twin


TASKS = "abcdefgh"


def served(tool: CountTool, attempts: int = 3) -> Collected:
    """Returns the trees of eight tasks whose tool is the same server."""
    policy, renderer = ScriptedPolicy(varied), ScriptedRenderer()
    starts = [Start(seed=place, options={"task": task}) for place, task in enumerate(TASKS)]
    told = {"seed": 3, "limits": Limits(attempts=attempts), "failures": Failures(lambda what, error: None)}
    return asyncio.run(try_collect(lambda: CountEnv(tool), starts, policy, renderer, PLAN, **told))  # type: ignore[arg-type]


def kills(tree: RolloutTree, depth: int) -> bool:
    """Whether a path of an undisturbed tree gets to a call."""
    return max(tree.depth(leaf) + bool(tree.nodes[leaf].tool) for leaf in tree.leaves()) >= depth


@settings(max_examples=12, deadline=None)
@given(attempts=st.integers(2, 3), depth=st.integers(1, 3), drawn=st.data())
def test_a_tree_that_takes_down_what_others_share_runs_out_of_attempts_alone(attempts: int, depth: int, drawn: Any) -> None:
    undisturbed = served(Shared())
    killers = "".join(sorted(drawn.draw(st.sets(st.sampled_from(TASKS), max_size=attempts))))
    found = served(Shared(killers, depth), attempts)
    for task, tree, wanted in zip(TASKS, found.trees, undisturbed.trees, strict=True):
        if task in killers and kills(wanted, depth):
            assert any(node.status is Status.TOOL_FAULT for node in tree.nodes), task
        else:
            assert tree == wanted, task
    assert (found.troubles[0].failure is not None) == ("a" in killers and kills(undisturbed.trees[0], depth))


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_tool_that_stays_away_is_not_asked_by_one_tree_after_the_other_for_ever(attempts: int) -> None:
    """Each of these trees would take down the tool; after a few it is taken to be away, and the rest go together."""
    together: list[int] = []

    class Counted(Shared):
        def open(self, task: Task, rng: np.random.Generator) -> "Served":
            together[-1:] = [together[-1] + 1]
            return super().open(task, rng)

    usual = batch._grown

    async def noted(*given: Any) -> Any:
        together.append(0)
        return await usual(*given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batch, "_grown", noted)
        found = served(Counted(TASKS), attempts)
    assert together == {1: [8], 2: [8, 1, 1, 6], 3: [8, 8, 1, 1, 1, 5]}[attempts]
    assert all(any(node.status is Status.TOOL_FAULT for node in tree.nodes) for tree in found.trees)


def test_a_tree_that_keeps_its_tool_shows_that_it_is_not_away() -> None:
    """Then others that lose it make their last attempt alone, however many did before."""
    failures = Failures(lambda what, error: None)
    beside = neighbours_for(Limits(), failures)
    beside.lost_alone = Limits().attempts
    policy, renderer = ScriptedPolicy(varied), ScriptedRenderer()
    asyncio.run(try_collect(CountEnv, [Start(seed=1)], policy, renderer, PLAN, seed=3, neighbours=beside))
    assert beside.lost_alone == 0
    beside.close()


def test_a_tree_that_calls_no_tool_shows_nothing() -> None:
    failures = Failures(lambda what, error: None)
    beside = neighbours_for(Limits(), failures)
    beside.lost_alone = Limits().attempts
    policy, renderer = ScriptedPolicy(calls_then_answer(0)), ScriptedRenderer()
    found = asyncio.run(try_collect(CountEnv, [Start(seed=1)], policy, renderer, PLAN, seed=3, neighbours=beside))
    assert {node.status for node in found.trees[0].nodes if node.status} == {Status.ANSWERED}
    assert beside.lost_alone == Limits().attempts
    beside.close()


def test_what_trees_cost_that_were_grown_again_is_counted() -> None:
    undisturbed = grown(CountTool())
    assert undisturbed.counts == {"trees_grown_again": 0.0, "calls_lost": 0.0, "tokens_lost": 0.0}
    tool = strikes(ToolLost("no answer"), {9}.__contains__)
    found = grown(tool)
    assert found.trees == undisturbed.trees
    assert found.counts["trees_grown_again"] == 1.0
    assert found.counts["calls_lost"] == len(tool.journal) - 1 - total_tool_calls(found.trees).executed > 0
    drawn = sum(len(node.tokens) for node in undisturbed.trees[0].nodes if node.kind == "action")
    assert 0 < found.counts["tokens_lost"] <= drawn
    away = grown(strikes(ToolLost("no answer"), lambda call: True), attempts=2)
    assert (away.counts["trees_grown_again"], away.counts["calls_lost"]) == (3.0, 0.0), "no call was ever answered"


def test_what_is_told_of_the_ends_of_a_tree_that_is_grown_again_begins_anew() -> None:
    told: list[tuple[int, int]] = []
    found = grown(strikes(ToolLost("no answer"), {9}.__contains__), ended=lambda *end: told.append(end))
    assert found.counts["trees_grown_again"] == 1.0
    counts = sorted([count for one, count in told if one == index] for index in (2, 3, 4))
    assert counts == [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4] * 2]


@settings(max_examples=40, deadline=None)
@given(struck=st.sets(st.integers(0, 60), max_size=2))
def test_whenever_it_is_lost_less_often_than_a_tree_is_tried_nothing_can_be_seen(struck: set[int]) -> None:
    undisturbed, failures = CountTool(), Failures(lambda what, error: None)
    tool = strikes(ToolLost("no answer"), struck.__contains__)
    found = grown(tool, failures)
    assert found.trees == grown(undisturbed).trees
    assert found.error is None
    assert all(trouble.failure is None for trouble in found.troubles)
    assert {what for what, _, _ in failures.counted()} <= {"tree grown again"}
    happened = sum(call < len(tool.journal) for call in struck)
    assert sum(times for _, _, times in failures.counted()) <= happened
    assert bool(failures.counted()) == bool(happened)
    assert tool.opened == tool.closed


def test_a_tool_that_stays_away_is_a_fault_of_each_leaf_counted_once() -> None:
    failures = Failures(lambda what, error: None)
    tool = strikes(ToolLost("no answer"), lambda call: True)
    found = grown(tool, failures, attempts=2)
    faulty = [node for tree in found.trees for node in tree.nodes if node.status is Status.TOOL_FAULT]
    assert {node.fault for node in faulty} == {"ToolLost: no answer"}
    lost, *again = sorted(failures.counted(), reverse=True)
    assert again == [("tool_fault", "ToolLost: no answer", len(faulty))]
    assert lost == ("tree grown again", "ToolLost: no answer", 3)
    assert len(tool.journal) == 2 * len(faulty)


def test_other_faults_are_not_tried_again_and_not_counted_twice_where_the_tree_is() -> None:
    failures = Failures(lambda what, error: None)
    tool = strikes(ToolFault("a broken index"), {1}.__contains__)
    found = grown(tool, failures, prompts=1)
    assert failures.counted() == [("tool_fault", "ToolFault: a broken index", 1)]
    assert sum(node.status is Status.TOOL_FAULT for node in found.trees[0].nodes) == 1

    lost = iter([ToolLost("no answer")])

    def both(history: History) -> ToolResult | None:
        if len(history) > 1 and (error := next(lost, None)):
            raise error
        if history[0].endswith("1"):
            raise ToolFault("a broken index")
        return None

    failures, tool = Failures(lambda what, error: None), CountTool(hook=both)
    found = grown(tool, failures, prompts=6)
    leaves = sum(node.status is Status.TOOL_FAULT for tree in found.trees for node in tree.nodes)
    assert leaves > 0
    assert sorted(failures.counted()) == [
        ("tool_fault", "ToolFault: a broken index", leaves),
        ("tree grown again", "ToolLost: no answer", 1),
    ]


def test_a_fork_that_was_lost_with_its_tool_is_grown_again() -> None:
    lost = iter([True])

    def gone(history: History) -> bool:
        if len(history) > 1 and next(lost, False):
            raise ToolLost("no answer")
        return False

    found = grown(CountTool(clone_hook=gone))
    assert next(lost, None) is None, "it did happen"
    assert found.trees == grown(CountTool()).trees


def test_a_place_whose_snapshot_was_lost_with_its_tool_is_grown_at_again() -> None:
    lost = iter([True])

    def gone(history: History) -> bool:
        if len(history) == 1 and next(lost, False):
            raise ToolLost("no answer")
        return False

    def after_the_first_result(tree: RolloutTree) -> list[Grow]:
        node = find(tree, kind="observation")
        return [Grow(node, len(tree.nodes[node].tokens), 1)]

    class Growing(Scheduled):
        def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
            if len(tree.nodes) == 1:
                self.asked.clear()  # another attempt at the tree
            return super().plan(tree, left, rng)

    def tree(tool: CountTool) -> RolloutTree:
        return grow(tool, Plan(Growing((after_the_first_result,)), 2), calls_then_answer(2))[0]

    found = tree(CountTool(clone_hook=gone))
    assert next(lost, None) is None, "it did happen"
    assert found == tree(CountTool())
    assert any(node.origin == "branch" for node in found.nodes)


# --- while a run is recorded ----------------------------------------------------------------------------------


class Look(Stateless):
    """A pure tool, which is lost at one of its calls.

    Args:
        lost: which one, from 0; -1 for none.
    """

    specs = (replace(COUNT, name="look"),)
    pure: Mapping[str, Any] = {"version": 1}

    def __init__(self, lost: int = -1) -> None:
        self.lost, self.calls = lost, count()

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        if next(self.calls) == self.lost:
            raise ToolLost("no answer")
        return ToolResult(f"seen {arguments['text']}")


def looks(before: str, seed: int) -> str:
    """Uses both tools in turn, and answers after a few calls."""
    name = "look" if results(before) % 2 else "count"
    return varied(before, seed).replace("count>", f"{name}>")


def answered_by(answers: Answers, look: Look, tool: CountTool) -> Collected:
    """Returns trees whose tool `look` is answered."""

    def make_env() -> ToolEnv:
        env = ToolEnv(tasks=One(), tools=(tool, look), reward=numeric, max_turns=12)
        answer_tools(env, answers)
        return env

    told = {"seed": 3, "failures": Failures(lambda what, error: None)}
    starts, policy, renderer = [Start(seed=i) for i in range(8)], ScriptedPolicy(looks), ScriptedRenderer()
    return asyncio.run(try_collect(make_env, starts, policy, renderer, PLAN, **told))  # type: ignore[arg-type]


def test_a_recording_holds_the_loss_of_a_tool_that_it_answers_for_once_and_replays_it(tmp_path: Path) -> None:
    with Store(tmp_path / "tools.sqlite") as store:
        recorder, replayer = Recorder(store), Replayer(store)
        found = answered_by(recorder, Look(lost=1), CountTool())
        again = answered_by(replayer, Look(lost=0), CountTool())
        faulty = [node.fault for tree in found.trees for node in tree.nodes if node.status is Status.TOOL_FAULT]
        assert faulty == ["ToolFault: ToolLost: no answer"]
        assert found.counts["trees_grown_again"] == 0.0
        assert (again.trees, again.counts) == (found.trees, found.counts)
        looked = sum(node.tool == "look" for tree in found.trees for node in tree.nodes)
        assert recorder.tally["answered"] == replayer.tally["answered"] == looked + 1, "nothing was asked twice"


def test_a_tree_whose_other_tool_was_lost_is_grown_again_and_recorded_as_if_undisturbed(tmp_path: Path) -> None:
    undisturbed = grown_with(Look(), CountTool(), tmp_path / "undisturbed")
    found = grown_with(Look(), strikes(ToolLost("no answer"), {5}.__contains__), tmp_path / "found")
    assert found.trees == undisturbed.trees
    assert found.counts["trees_grown_again"] == 1.0
    with Store(tmp_path / "found", reading=True) as store:
        assert answered_by(Replayer(store), Look(lost=0), CountTool()).trees == undisturbed.trees


def grown_with(look: Look, tool: CountTool, file: Path) -> Collected:
    with Store(file) as store:
        return answered_by(Recorder(store), look, tool)


def test_what_is_lost_is_seen_through_what_it_caused() -> None:
    failed = CloneError("no copy")
    assert not is_lost(failed)
    failed.__cause__ = ToolLost("no answer")
    assert is_lost(failed)
    final = ToolFault("a recorded loss")
    final.__cause__ = failed.__cause__
    assert not is_lost(final)


def test_a_tree_is_grown_at_least_once() -> None:
    with pytest.raises(ConfigError, match="attempts must be at least 1, got 0"):
        Limits(attempts=0)
