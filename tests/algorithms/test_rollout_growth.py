"""Strategies that grow a tree from its inside: forks within an action, late growth of a finished tree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from rollout_toys import CountTool, Plan, grow, path_text, results, statuses

from algorithms.branching import BranchPoint, Grow
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rollout import environments
from algorithms.tree import RolloutTree, Status
from arpo_envs.errors import ConfigError
from arpo_envs.forking import ForkLevel, Snapshot, snapshot

BOTH = pytest.mark.parametrize("mode", ["deterministic", "free"])


@dataclass(frozen=True)
class Scheduled:
    """Plans roots, then what the test says, plan after plan."""

    plans: tuple[Callable[[RolloutTree], Sequence[Grow]], ...]
    roots: int | None = 1
    keeps: str = "action"
    probe: int = 0
    forks: bool = True
    asked: list[int] = field(default_factory=list)

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        self.asked.append(left)
        number = len(self.asked) - 1
        if number == 0:
            return [Grow(0, len(tree.nodes[0].tokens), self.roots or left)]
        return self.plans[number - 1](tree) if number <= len(self.plans) else []

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        return 0


def find(tree: RolloutTree, **wanted: Any) -> int:
    """Returns the first node with these fields."""
    return next(i for i, n in enumerate(tree.nodes) if all(getattr(n, name) == value for name, value in wanted.items()))


def script(before: str, seed: int) -> str:
    """Calls twice, each call named by its seed, then answers by its seed."""
    return f"<count>n{seed % 1000:03}</count>" if results(before) < 2 else f"<answer>{seed % 8 / 8}</answer>"


class Recorder:
    """Counts the snapshots that are taken and that are still open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[Snapshot] = []
        monkeypatch.setattr(environments, "snapshot", self._take)

    def _take(self, env: Any) -> Snapshot:
        self.taken.append(snapshot(env))
        return self.taken[-1]

    def all_closed(self) -> bool:
        return bool(self.taken) and all(snap.closed for snap in self.taken)


# --- inside an action ------------------------------------------------------------------------------------


@BOTH
def test_a_fork_inside_an_action_keeps_the_forced_tokens(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, tool = Recorder(monkeypatch), CountTool()
    inside = Scheduled((lambda tree: [Grow(find(tree, key=(0,)), 2, 2)],))
    (tree,) = grow(tool, Plan(inside, 3), script, mode=mode)
    assert statuses(tree) == [Status.ANSWERED] * 3
    head = tree.nodes[1]
    assert (head.key, head.text, head.tool, head.reward) == ((0,), "", "", None)
    assert "".join(map(chr, head.tokens)) == "<c"
    ends = [n for n in tree.nodes if n.parent == 1]
    assert [n.origin for n in ends] == ["", "branch", "branch"]
    for node in ends:
        assert node.text.startswith("<count>n")
        assert node.text == "<c" + "".join(map(chr, node.tokens)), "text = prefix + rest; the prefix is stored once"
        assert node.tool == "count"
    assert len({n.text for n in ends}) == 3, "the rest was drawn anew"
    assert_journal_is_the_tree(tool, tree)
    assert recorder.all_closed()
    assert tool.opened == tool.closed


def assert_journal_is_the_tree(tool: CountTool, tree: RolloutTree) -> None:
    """The tool saw each call of the tree once, after exactly the calls of its own path."""
    wanted = set()
    for leaf in tree.leaves():
        calls = [part.split("</count>")[0] for part in path_text(tree, leaf).split("<count>")[1:]]
        wanted |= {tuple(calls[: i + 1]) for i in range(len(calls))}
        if calls:
            said = path_text(tree, leaf).rsplit("<result>", 1)[1]
            assert said.startswith(f"{len(calls)} of {','.join(calls)} "), "the environment was in this path's state"
    assert sorted(tool.journal) == sorted(wanted)
    assert tree.tool_calls().executed == len(tool.journal)


@BOTH
def test_a_fork_inside_a_later_action_inherits_the_state_before_that_action(mode: str) -> None:
    tool = CountTool()
    inside = Scheduled((lambda tree: [Grow(find(tree, key=(0, 0, 0)), 8, 2)],))
    (tree,) = grow(tool, Plan(inside, 3), script, mode=mode)
    assert_journal_is_the_tree(tool, tree)
    forks = [i for i, n in enumerate(tree.nodes) if n.origin == "branch"]
    assert [tree.depth(i) for i in forks] == [1, 1]
    assert tree.tool_calls().inherited == 2


def test_a_fork_inside_a_fork_inside_an_action() -> None:
    tool = CountTool()

    def again(tree: RolloutTree) -> list[Grow]:
        fork = find(tree, origin="branch")
        assert tree.nodes[fork].parent_at == 2
        return [Grow(fork, 4, 1)]

    inside = Scheduled((lambda tree: [Grow(find(tree, key=(0,)), 2, 1)], again))
    (tree,) = grow(tool, Plan(inside, 3), script)
    texts = sorted(n.text for n in tree.nodes if n.tool and tree.depth(tree.nodes.index(n)) == 0)
    assert len(texts) == 3
    assert all(text.startswith("<count>n") and text.endswith("</count>") for text in texts)
    assert_journal_is_the_tree(tool, tree)


def test_forks_in_one_action_at_several_places_in_one_plan() -> None:
    tool = CountTool()

    def several(tree: RolloutTree) -> list[Grow]:
        node = find(tree, key=(0,))
        return [Grow(node, 5, 1), Grow(node, 2, 1), Grow(node, 9, 1)]

    (tree,) = grow(tool, Plan(Scheduled((several,)), 4), script)
    assert statuses(tree) == [Status.ANSWERED] * 4
    assert_journal_is_the_tree(tool, tree)
    lengths = [len(n.tokens) for n in tree.nodes[1:] if n.kind == "action" and not n.text]
    assert lengths == [2, 3, 4], "one action, split at 2, 5 and 9"


def test_the_continuation_is_told_what_was_forced() -> None:
    calls: list[dict[str, Any]] = []

    class SpyPolicy(ScriptedPolicy):
        async def generate(self, context: Any, params: Any, **rest: Any) -> Any:
            calls.append({"context": "".join(map(chr, context)), "max": params.max_tokens, **rest})
            return await super().generate(context, params, **rest)

    inside = Scheduled((lambda tree: [Grow(find(tree, key=(0,)), 3, 1)],))
    grow(CountTool(), Plan(inside, 2), SpyPolicy(script), action_tokens=100)
    forced = [call for call in calls if call["offset"]]
    assert [(c["offset"], c["tail"], c["max"]) for c in forced] == [(3, "<co", 97)]
    assert forced[0]["context"].endswith("?\n<co")


# --- late --------------------------------------------------------------------------------------------------


@BOTH
def test_a_finished_tree_grows_from_an_old_observation(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, tool = Recorder(monkeypatch), CountTool()

    def late(tree: RolloutTree) -> list[Grow]:
        assert all(tree.nodes[leaf].status for leaf in tree.leaves())
        seen = find(tree, kind="observation", key=(0, 0))
        return [Grow(seen, len(tree.nodes[seen].tokens), 3)]

    strategy = Scheduled((late,), roots=2)
    (tree,) = grow(tool, Plan(strategy, 5), script, mode=mode)
    assert strategy.asked == [5, 3]
    assert statuses(tree) == [Status.ANSWERED] * 5
    forks = [n for n in tree.nodes if n.origin == "branch"]
    assert [tree.nodes[n.parent].key for n in forks] == [(0, 0)] * 3
    assert len({n.text for n in forks}) == 3
    assert_journal_is_the_tree(tool, tree)
    assert recorder.all_closed()
    assert tool.opened == tool.closed


def test_late_growth_at_the_last_observation_and_at_several_places() -> None:
    tool = CountTool()

    def late(tree: RolloutTree) -> list[Grow]:
        places = [i for i, n in enumerate(tree.nodes) if n.kind == "observation"]
        return [Grow(i, len(tree.nodes[i].tokens), 1) for i in places] + [Grow(0, len(tree.nodes[0].tokens), 1)]

    (tree,) = grow(tool, Plan(Scheduled((late, late)), 8), script)
    # one root with two results; the first plan adds 2 forks and a root, the second has 4 left of 7 places
    assert len(tree.leaves()) == 8
    assert_journal_is_the_tree(tool, tree)
    assert [n.origin for n in tree.nodes if n.parent == 0].count("backfill") == 1


def test_late_growth_under_replay_counts_what_it_re_ran() -> None:
    tool = CountTool(fork_level=ForkLevel.REPLAY)
    late = Scheduled((lambda tree: [Grow(find(tree, key=(0, 0)), len(tree.nodes[find(tree, key=(0, 0))].tokens), 2)],))
    (tree,) = grow(tool, Plan(late, 3), script)
    assert tree.tool_calls().replayed == len(tool.replays)
    assert tree.tool_calls().executed == len(tool.journal)


def test_the_same_seed_grows_the_same_tree_late() -> None:
    def late(tree: RolloutTree) -> list[Grow]:
        return [Grow(i, len(n.tokens), 1) for i, n in enumerate(tree.nodes) if n.kind == "observation"]

    def once() -> str:
        return grow(CountTool(), Plan(Scheduled((late,), roots=2), 6), script)[0].to_json()

    assert once() == once()


# --- what a plan may not say ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda tree: [Grow(99, 1, 1)], "the tree has"),
        (lambda tree: [Grow(-1, 1, 1)], "the tree has"),
        (lambda tree: [Grow(0, 1, 1)], "whole prompt"),
        (lambda tree: [Grow(1, 0, 1)], "strictly inside an action"),
        (lambda tree: [Grow(1, len(tree.nodes[1].tokens), 1)], "strictly inside an action"),
        (lambda tree: [Grow(2, 1, 1)], "whole prompt or observation"),
    ],
)
def test_places_that_do_not_exist_are_refused(wrong: Callable[[RolloutTree], list[Grow]], reason: str) -> None:
    tool = CountTool()
    with pytest.raises(ConfigError, match=reason):
        grow(tool, Plan(Scheduled((wrong,)), 3), script)
    assert tool.opened == tool.closed


def test_growing_inside_needs_parked_environments() -> None:
    forgetful = Scheduled((lambda tree: [Grow(find(tree, key=(0,)), 2, 1)],), keeps="none")
    with pytest.raises(ConfigError, match="keeps='action'"):
        grow(CountTool(), Plan(forgetful, 3), script)


def test_nothing_is_parked_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    grow(CountTool(), Plan(Scheduled((), keeps="none"), 3), script)
    assert recorder.taken == []


def test_a_plan_never_exceeds_the_budget() -> None:
    greedy = Scheduled((lambda tree: [Grow(find(tree, key=(0,)), 2, 50), Grow(find(tree, key=(0,)), 3, 50)],))
    (tree,) = grow(CountTool(), Plan(greedy, 4), script)
    assert len(tree.leaves()) == 4


def test_a_place_whose_snapshot_failed_gives_failed_leaves() -> None:
    tool = CountTool(clone_hook=lambda history: len(history) == 1)

    def late(tree: RolloutTree) -> list[Grow]:
        seen = find(tree, key=(0, 0))
        return [Grow(seen, len(tree.nodes[seen].tokens), 2)]

    (tree,) = grow(tool, Plan(Scheduled((late,)), 3), script)
    assert sorted(statuses(tree)) == ["answered", "clone_failed", "clone_failed"]
