"""`collect`: budget, order, both modes, counts; what fails is in `test_rollout_failures.py`."""

import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from rollout_toys import Coin, CountEnv, CountTool, Plan, calls_then_answer, grow, path_text, results, statuses, varied

from algorithms.branching import Grow, NoBranching
from algorithms.policies import Generation, Sampling
from algorithms.policies.scripted import Script, ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Ended, Failures, MakeEnv, collect, try_collect
from algorithms.rollout.clock import LogicalClock
from algorithms.rollout.run import Limits, Start
from algorithms.tree import RolloutTree, Status
from arpo_envs.errors import ConfigError
from arpo_envs.forking import ForkLevel
from arpo_envs.tools import ToolResult

BOTH = pytest.mark.parametrize("mode", ["deterministic", "free"])


def settled(tool: CountTool) -> bool:
    """Whether every session that was opened is closed."""
    return tool.opened == tool.closed


# --- exactly M leaves ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("budget", ["shared", "per_root"])
@pytest.mark.parametrize("probe", [0, 3])
def test_every_tree_has_exactly_its_leaves(mode: str, budget: str, probe: int) -> None:
    drawn = random.Random(probe)
    for case in range(12):
        rollouts = drawn.randint(2, 14)
        coin = Coin(drawn.randint(1, rollouts), drawn.choice([0.0, 0.3, 1.0]), drawn.randint(1, 4), probe)
        fails = drawn.choice([0.0, 0.0, 0.4])
        tool = CountTool(clone_hook=lambda history, fails=fails, drawn=drawn: drawn.random() < fails)
        trees = grow(tool, Plan(coin, rollouts), varied, prompts=3, seed=case, mode=mode, budget=budget)
        for tree in trees:
            assert tree.frozen
            assert len(tree.leaves()) == rollouts, (case, coin)
            assert set(statuses(tree)) <= {Status.ANSWERED, Status.CLONE_FAILED, Status.TRUNCATED}
            inner = {node.parent for node in tree.nodes}
            assert [i for i in range(len(tree.nodes)) if i not in inner] == tree.leaves()
            assert sum(n.origin == "root" for n in tree.nodes) == min(coin.roots or rollouts, rollouts)
            assert all((n.origin != "") == (n.parent == 0 or n.origin == "branch") for n in tree.nodes[1:])
        assert settled(tool)


@BOTH
def test_what_forks_leave_over_is_back_filled_all_at_once(mode: str) -> None:
    together = threading.Barrier(6, timeout=5.0)

    def answers_together(history: tuple[str, ...]) -> ToolResult | None:
        if history[0] == "late":
            together.wait()  # breaks unless all six back-filled paths call at the same time
        return None

    def script(before: str, seed: int) -> str:
        if results(before):
            return "<answer>1</answer>"
        return "<count>late</count>" if started["n"] else "<answer>0</answer>"

    started = {"n": 0}

    class Once(Coin):
        def plan(self, tree: RolloutTree, left: int, rng: object) -> list[Grow]:
            planned = super().plan(tree, left, rng)  # type: ignore[arg-type]
            started["n"] = len(tree.roots())
            return list(planned)

    (tree,) = grow(CountTool(hook=answers_together), Plan(Once(2, 0.0), 8), script, mode=mode)
    assert Counter(n.origin for n in tree.nodes) == {"": 13, "root": 2, "backfill": 6}
    assert statuses(tree) == [Status.ANSWERED] * 8


def test_a_strategy_that_plans_nothing_more_closes_the_tree_early() -> None:
    class Stops(Coin):
        def plan(self, tree: RolloutTree, left: int, rng: object) -> list[Grow]:
            return [] if tree.roots() else [Grow(0, len(tree.nodes[0].tokens), 3), Grow(0, len(tree.nodes[0].tokens), 0)]

    (tree,) = grow(plan=Plan(Stops(3, 0.0), 8))
    assert len(tree.leaves()) == 3


def test_no_tasks_no_trees_and_no_rollouts_is_an_error() -> None:
    assert grow(prompts=0) == []
    with pytest.raises(ConfigError, match="at least one rollout"):
        grow(plan=Plan(NoBranching(), 0))


# --- what is told of ends --------------------------------------------------------------------------------


def telling(ended: Ended, make_env: MakeEnv, script: Script, plan: Plan = Plan(), **limits: Any) -> list[RolloutTree]:
    """Grows three trees, whose positions begin with 5."""
    starts, failures = [Start(seed=i) for i in range(3)], Failures(lambda *_: None)
    told: dict[str, Any] = {"seed": 3, "first": 5, "limits": Limits(**limits), "failures": failures, "ended": ended}
    return asyncio.run(try_collect(make_env, starts, ScriptedPolicy(script), ScriptedRenderer(), plan, **told)).trees


@BOTH
def test_each_path_that_ends_is_told_also_those_that_could_not_begin(mode: str) -> None:
    def no_env() -> CountEnv:
        raise OSError("none left")

    told: list[tuple[int, int]] = []
    tool = CountTool(clone_hook=lambda history: len(history) == 1)
    trees = telling(lambda *end: told.append(end), lambda: CountEnv(tool), varied, Plan(Coin(2, 0.5), 4), mode=mode)
    assert Status.CLONE_FAILED in [status for tree in trees for status in statuses(tree)]
    for index in (5, 6, 7):
        assert [count for one, count in told if one == index] == [1, 2, 3, 4]
    told.clear()
    telling(lambda *end: told.append(end), no_env, varied, mode=mode)
    assert sorted(told) == [(5, 4), (6, 4), (7, 4)]


def test_an_end_is_told_while_other_paths_are_under_way() -> None:
    first = threading.Event()

    def hook(history: tuple[str, ...]) -> None:
        assert first.wait(5.0)

    def script(before: str, seed: int) -> str:
        return "<answer>1</answer>" if results(before) or seed % 2 else "<count>late</count>"

    trees = telling(lambda *_: first.set(), lambda: CountEnv(CountTool(hook=hook)), script, mode="free")
    assert {status for tree in trees for status in statuses(tree)} == {Status.ANSWERED}
    assert {len(tree.path(leaf)) for tree in trees for leaf in tree.leaves()} == {2, 4}


# --- determinism -----------------------------------------------------------------------------------------


def bytes_of(trees: list[RolloutTree]) -> list[str]:
    return [tree.to_json() for tree in trees]


def test_deterministic_mode_gives_the_same_bytes_whatever_the_threads_do() -> None:
    def sleepy(noise: random.Random) -> CountTool:
        def hook(history: tuple[str, ...]) -> None:
            time.sleep(noise.random() * 0.004)

        def clone_hook(history: tuple[str, ...]) -> bool:
            time.sleep(noise.random() * 0.002)
            return bool(history) and int(history[-1]) % 5 == 0

        return CountTool(hook=hook, clone_hook=clone_hook)

    def once(noise: int, debug: bool, seed: int, threads: int = 64) -> list[str]:
        plan = Plan(Coin(3, 0.5, 2, probe=2), 11)
        tool = sleepy(random.Random(noise))
        return bytes_of(grow(tool, plan, varied, prompts=3, seed=seed, debug=debug, threads=threads))

    first = once(1, False, seed=3)
    assert first == once(2, True, seed=3) == once(3, False, seed=3, threads=2)
    assert first != once(1, False, seed=4)
    assert len(set(first)) == 3, "prompts do not share their draws"


@pytest.mark.parametrize("noise", range(6))
def test_the_shared_budget_is_served_in_key_order_whoever_comes_first(noise: int) -> None:
    rng = random.Random(noise)
    tool = CountTool(hook=lambda history: time.sleep(rng.random() * 0.01))
    (tree,) = grow(tool, Plan(Coin(5, 1.0, 2), 9), calls_then_answer(2))
    assert Counter(tree.nodes[leaf].key[0] for leaf in tree.leaves()) == {0: 3, 1: 3, 2: 1, 3: 1, 4: 1}


def test_a_tick_wakes_everybody_in_order_the_last_to_come_included() -> None:
    async def run(arrivals: list[int]) -> list[int]:
        clock, woken = LogicalClock(), []

        async def path(order: int) -> None:
            for _ in range(3):
                await clock.tick((order,))
                woken.append(order)
            clock.leave()

        for _ in arrivals:
            clock.join()
        await asyncio.gather(*(path(order) for order in arrivals))
        return woken

    assert asyncio.run(run([2, 1, 0])) == asyncio.run(run([1, 2, 0])) == [0, 1, 2] * 3


def test_a_tree_that_its_last_path_wakes_comes_back_before_the_others_go_on() -> None:
    async def run() -> list[str]:
        clock, quiet, woken = LogicalClock(), asyncio.Event(), []

        async def tree() -> None:
            async with clock.away():
                await quiet.wait()
            await clock.tick((0,))
            woken.append("tree")
            clock.leave()

        async def path() -> None:
            await clock.tick((0, 0))
            woken.append("path")
            quiet.set()
            clock.leave()

        async def other() -> None:
            for _ in range(2):
                await clock.tick((1,))
                woken.append("other")
            clock.leave()

        for _ in range(3):
            clock.join()
        await asyncio.gather(tree(), path(), other())
        return woken

    assert asyncio.run(run()) == ["path", "other", "tree", "other"]


def test_step_and_position_enter_every_draw() -> None:
    plan = Plan(Coin(2, 0.5), 6)
    here, there = (bytes_of(grow(plan=plan, script=varied, step=step)) for step in (0, 1))
    assert here != there
    starts = [Start(seed=5), Start(seed=5)]
    policy, renderer = ScriptedPolicy(varied), ScriptedRenderer()
    one, two = asyncio.run(collect(CountEnv, starts, policy, renderer, plan, seed=0))
    assert [n.seed for n in one.nodes] != [n.seed for n in two.nodes]


def test_siblings_differ_in_tool_randomness_and_draws_but_a_path_repeats() -> None:
    plan = Plan(Coin(1, 1.0, 5), 6)
    (tree,) = grow(plan=plan, script=calls_then_answer(2))
    seeds = [n.seed for n in tree.nodes if n.kind == "action"]
    assert len(set(seeds)) == len(seeds)
    dice = [n.text.split("die ")[1] for n in tree.nodes if n.kind == "observation"]
    assert len(set(dice)) > 1


# --- free mode -------------------------------------------------------------------------------------------


def test_free_mode_lets_nobody_wait() -> None:
    """The slow path's first call returns only after all others have answered."""
    others_done, order = threading.Event(), []

    def hook(history: tuple[str, ...]) -> None:
        if history == ("slow",):
            assert others_done.wait(10.0), "somebody waited for the slow path"
        order.append(history[0])

    class Policy(ScriptedPolicy):
        async def generate(self, context: list[int], params: Sampling, **rest: object) -> Generation:  # type: ignore[override]
            out = await super().generate(context, params, **rest)  # type: ignore[arg-type]
            text = "".join(map(chr, out.tokens))
            finished.extend([text] if "answer" in text else [])
            if len(finished) == 5:
                others_done.set()
            return out

    finished: list[str] = []
    first: list[int] = []

    def script(before: str, seed: int) -> str:
        if results(before) == 0:
            first.append(seed)
            return "<count>slow</count>" if len(first) == 1 else "<count>fast</count>"
        return "<answer>1</answer>" if results(before) > 2 or "slow" in before else "<count>more</count>"

    (tree,) = grow(CountTool(hook=hook), Plan(NoBranching(), 6), Policy(script), mode="free")
    assert statuses(tree) == [Status.ANSWERED] * 6
    assert order[-1] == "slow"


def test_free_mode_prompts_do_not_wait_for_each_other_either() -> None:
    release, answered = threading.Event(), []

    def script(before: str, seed: int) -> str:
        letter = before.split("?")[0][-1]
        if results(before):
            answered.append(letter)
            if len(answered) == 2:
                release.set()
            return "<answer>1</answer>"
        return f"<count>{letter}</count>"

    def hook(history: tuple[str, ...]) -> None:
        if history == ("a",):
            assert release.wait(10.0)

    tool = CountTool(hook=hook)
    starts = [Start(0, {"task": letter}) for letter in "abc"]
    limits = Limits(mode="free")
    run = collect(
        lambda: CountEnv(tool), starts, ScriptedPolicy(script), ScriptedRenderer(), Plan(rollouts=1), seed=0, limits=limits
    )
    trees = asyncio.run(run)
    assert [tree.task for tree in trees] == ["a", "b", "c"], "trees come in the order of the tasks"
    assert answered[-1] == "a"


@pytest.mark.parametrize("seed", range(4))
def test_per_root_budget_makes_the_shape_independent_of_arrival(seed: int) -> None:
    """Forks of one root race for its share; each owns its part of it, so nobody can be late."""

    def shape(noise: int, mode: str) -> str:
        rng = random.Random(noise)
        tool = CountTool(hook=lambda history: time.sleep(rng.random() * 0.006))
        plan = Plan(Coin(2, 0.6, 1), 12)
        return grow(tool, plan, calls_then_answer(5), seed=seed, mode=mode, budget="per_root")[0].to_json()

    shapes = {shape(noise, mode) for noise in range(3) for mode in ("free", "deterministic")}
    assert len(shapes) == 1


def test_per_root_budget_shares_evenly() -> None:
    (tree,) = grow(plan=Plan(Coin(3, 1.0, 4), 11), script=calls_then_answer(3), budget="per_root")
    leaves = Counter(tree.nodes[leaf].key[0] for leaf in tree.leaves())
    assert leaves == {0: 4, 1: 4, 2: 3}
    (tree,) = grow(plan=Plan(Coin(3, 1.0, 4), 11), script=calls_then_answer(3), budget="shared")
    assert Counter(tree.nodes[leaf].key[0] for leaf in tree.leaves()) == {0: 5, 1: 5, 2: 1}, "served in key order"


# --- what runs, runs once --------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("probe", [0, 5])
def test_a_fork_never_executes_a_call_again(mode: str, probe: int) -> None:
    tool = CountTool()
    trees = grow(tool, Plan(Coin(2, 0.7, 2, probe), 12), varied, prompts=4, mode=mode)
    counts = [tree.tool_calls() for tree in trees]
    assert sum(c.executed for c in counts) == len(tool.journal)
    assert sum(c.inherited for c in counts) > 0
    assert sum(c.replayed for c in counts) == 0
    for tree in trees:
        for leaf in tree.leaves():
            calls = [part.split("</count>")[0] for part in path_text(tree, leaf).split("<count>")[1:]]
            for done in range(1, len(calls) + 1):
                assert tuple(calls[:done]) in tool.journal, "the tool saw exactly this path's calls"


def test_replayed_calls_are_counted_apart() -> None:
    tool = CountTool(fork_level=ForkLevel.REPLAY)
    (tree,) = grow(tool, Plan(Coin(1, 1.0, 1), 4), calls_then_answer(3))
    calls = tree.tool_calls()
    assert calls.executed == len(tool.journal)
    assert calls.replayed == len(tool.replays) > 0
    assert [n.replayed for n in tree.nodes if n.origin == "branch"] == [
        tree.depth(i) for i, n in enumerate(tree.nodes) if n.origin == "branch"
    ]


def test_replays_for_parked_snapshots_count_too() -> None:
    tool = CountTool(fork_level=ForkLevel.REPLAY)
    (tree,) = grow(tool, Plan(replace(Coin(2, 0.0), keeps="action"), 2), calls_then_answer(3))
    assert tree.tool_calls().replayed == len(tool.replays) == 2 * (1 + 2 + 3)


def test_an_environment_that_cannot_be_cloned_serves_grpo_and_refuses_forks() -> None:
    tool = CountTool(fork_level=ForkLevel.NONE)
    (tree,) = grow(tool, Plan(NoBranching(), 5), varied)
    assert len(tree.leaves()) == 5
    assert len({n.text for n in tree.nodes if n.parent == 0}) > 1
    assert settled(tool)
    with pytest.raises(ConfigError, match="cannot be cloned") as caught:
        grow(tool, Plan(Coin(2), 5), varied)
    assert type(caught.value) is ConfigError, "not wrapped in a group"
    assert settled(tool)


# --- context ---------------------------------------------------------------------------------------------


def test_a_full_context_ends_the_path_with_the_forfeited_reward() -> None:
    policy = ScriptedPolicy(lambda before, seed: "<count>" + "x" * 40 + "</count>", context_length=120)
    (tree,) = grow(script=policy, plan=Plan(rollouts=2), answer_reserve=20)
    assert statuses(tree) == [Status.CONTEXT_FULL] * 2
    for leaf in tree.leaves():
        assert tree.nodes[leaf].tokens == ()
        assert tree.total_reward(leaf) == -1.0
        assert len(tree.tokens(leaf)) == 120


def test_an_observation_is_cut_to_room_marked_and_keeps_its_closing_tag() -> None:
    tool = CountTool(hook=lambda history: ToolResult("y" * 500))
    policy = ScriptedPolicy(calls_then_answer(1), context_length=150)
    (tree,) = grow(tool, Plan(rollouts=2), policy, answer_reserve=30)
    for node in (n for n in tree.nodes if n.kind == "observation"):
        assert node.text.startswith("<result>yyy")
        assert node.text.endswith("… [cut]</result>")
        assert node.text == "".join(map(chr, node.tokens)), "the text is what the model saw"
    assert statuses(tree) == [Status.ANSWERED] * 2
    leaf = tree.leaves()[0]
    before_answer = len(tree.tokens(leaf)) - len(tree.nodes[leaf].tokens)
    assert before_answer == 150 - 30, "the reserve is left for the answer, and no more"


def test_action_tokens_limit_one_action() -> None:
    policy = ScriptedPolicy(lambda before, seed: "x" * 1000)
    (tree,) = grow(script=policy, plan=Plan(Coin(1, 0.0, probe=4), 2), action_tokens=9)
    lengths = {len(n.tokens) for n in tree.nodes if n.kind == "action"}
    assert lengths == {9}


def test_a_prompt_without_room_and_a_foreign_dialect_are_the_users_mistakes() -> None:
    tool = CountTool()
    with pytest.raises(ConfigError, match="The prompt has 12 tokens and 64 are reserved") as caught:
        grow(tool, script=ScriptedPolicy(calls_then_answer(1), context_length=70))
    assert type(caught.value) is ConfigError
    with pytest.raises(ConfigError, match="dialect='json'"):
        grow(tool, renderer=ScriptedRenderer(dialect="json"))
    run = collect(CountEnv, [Start(0, {"nonsense": 1})], ScriptedPolicy(varied), ScriptedRenderer(), Plan(), seed=0)
    with pytest.raises(ConfigError, match="Unknown reset options"):
        asyncio.run(run)
    assert settled(tool)
