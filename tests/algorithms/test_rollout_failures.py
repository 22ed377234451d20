"""Failures become the status of one leaf; siblings, the pool and the interpreter go on."""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from rollout_toys import Coin, CountEnv, CountTool, Plan, calls_then_answer, grow, results, statuses

from algorithms.branching import NoBranching
from algorithms.policies import Generation, Sampling
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import Encoded, ScriptedRenderer
from algorithms.rollout import RolloutError, collect
from algorithms.rollout.run import Start
from algorithms.rollout.threads import ToolThreads
from algorithms.tree import RolloutTree, Status
from arpo_envs.errors import CloneError, ConfigError, NotForkable, ToolFault
from arpo_envs.forking import ForkLevel
from arpo_envs.spaces import TextSpace
from arpo_envs.tools import ToolResult

BOTH = pytest.mark.parametrize("mode", ["deterministic", "free"])
BAD, GOOD = "bad", "good"


def one_bad(first: list[int]) -> Callable[[str, int], str]:
    """The first path to act calls with "bad", all others with "good"; then all answer."""

    def script(before: str, seed: int) -> str:
        if results(before):
            return "<answer>1</answer>"
        if not first:
            first.append(seed)
        return f"<count>{BAD if seed == first[0] else GOOD}</count>"

    return script


def faulty(trouble: Callable[[], Any]) -> CountTool:
    """A tool that is in trouble when called with "bad"."""

    def hook(history: tuple[str, ...]) -> ToolResult | None:
        return trouble() if history[-1] == BAD else None

    return CountTool(hook=hook)


def raising(error: BaseException) -> Callable[[], Any]:
    def trouble() -> Any:
        raise error

    return trouble


# --- tools -----------------------------------------------------------------------------------------------


@BOTH
def test_a_hanging_tool_costs_one_leaf(mode: str) -> None:
    release = threading.Event()
    tool = faulty(lambda: release.wait(30.0) and None)
    (tree,) = grow(tool, Plan(NoBranching(), 4), one_bad([]), mode=mode, tool_timeout=0.1, threads=1)
    release.set()
    assert sorted(statuses(tree)) == sorted([Status.TOOL_TIMEOUT] + [Status.ANSWERED] * 3)
    leaf = next(n for n in tree.nodes if n.status is Status.TOOL_TIMEOUT)
    assert leaf.text == "<count>bad</count>", "what it tried is kept"
    assert all(leaf.sampled)
    assert (leaf.reward, leaf.tool) == (None, "")


@BOTH
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("boom"),
        StopIteration("empty"),
        SystemExit(3),
        KeyboardInterrupt(),
        ToolFault("sandbox lost"),
        KeyError("x"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_raising_tool_costs_one_leaf(mode: str, error: BaseException) -> None:
    (tree,) = grow(faulty(raising(error)), Plan(Coin(4, 0.5), 6), one_bad([]), mode=mode)
    assert statuses(tree).count(Status.TOOL_FAULT) == 1, "it was noticed at once: by the limit it would be a time-out"
    assert statuses(tree).count(Status.ANSWERED) == 5


def test_an_environment_with_nonsense_for_a_reward_is_a_fault() -> None:
    class Nonsense(CountEnv):
        def step(self, action: str) -> Any:
            observation, reward, *rest = super().step(action)
            return observation, None if BAD in action else reward, *rest

    (tree,) = grow(script=one_bad([]), env=Nonsense, plan=Plan(rollouts=3))
    assert sorted(statuses(tree)) == ["answered", "answered", "tool_fault"]


def test_an_abandoned_thread_is_counted_and_the_pool_stays_usable() -> None:
    release = threading.Event()

    async def work() -> tuple[int, str, list[Any]]:
        late: list[Any] = []
        pool = ToolThreads(1, late.append)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await pool.run(0.02, lambda: (release.wait(30.0), "too late")[1])
        answer = await pool.run(5.0, lambda a, b: a + b, "us", b="able")
        release.set()
        while len(late) < 3:
            await asyncio.sleep(0.005)
        pool.close()
        return pool.abandoned, answer, late

    assert asyncio.run(work()) == (3, "usable", ["too late"] * 3)


def test_a_tools_own_timeout_error_does_not_cost_a_thread() -> None:
    async def work() -> tuple[int, int]:
        pool = ToolThreads()
        with pytest.raises(TimeoutError):
            await pool.run(5.0, raising(TimeoutError()))
        threads = pool.threads
        pool.close()
        return pool.abandoned, threads

    assert asyncio.run(work()) == (0, 1)


def test_the_interpreter_ends_although_a_tool_hangs_for_ever() -> None:
    program = """
        import asyncio, threading
        from algorithms.rollout.threads import ToolThreads
        async def main():
            pool = ToolThreads()
            try:
                await pool.run(0.05, threading.Event().wait)
            except TimeoutError:
                pool.close()
        asyncio.run(main())
        print("ended")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "ended\n"
    assert done.stderr == ""


def test_an_environment_that_comes_too_late_is_closed() -> None:
    class Slow(CountTool):
        def open(self, task: Any, rng: np.random.Generator) -> Any:
            session = super().open(task, rng)
            release.wait(10.0)
            return session

    release, tool = threading.Event(), Slow()
    with pytest.raises(RolloutError):
        grow(tool, tool_timeout=0.05)
    release.set()
    deadline = time.monotonic() + 5.0
    while tool.closed < 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert (tool.opened, tool.closed) == (1, 1)


# --- policies --------------------------------------------------------------------------------------------


class Troubled(ScriptedPolicy):
    """A policy in trouble when a path would write "bad", at the given offset."""

    trouble: Any = None
    at: int = 0

    async def generate(self, context: Any, params: Sampling, *, seed: int, offset: int = 0, tail: str = "") -> Generation:
        out = await super().generate(context, params, seed=seed, offset=offset, tail=tail)
        before = "".join(map(chr, context[: len(context) - offset]))
        if BAD in self.script(before, seed) and offset >= self.at:
            await self.trouble()
        return out


@BOTH
@pytest.mark.parametrize(("kind", "status"), [("raise", Status.POLICY_FAULT), ("hang", Status.POLICY_TIMEOUT)])
def test_a_failing_policy_costs_one_leaf(mode: str, kind: str, status: Status) -> None:
    async def raises() -> None:
        raise RuntimeError("out of memory")

    async def hangs() -> None:
        await asyncio.sleep(60.0)

    policy = Troubled(one_bad([]))
    policy.trouble = raises if kind == "raise" else hangs
    (tree,) = grow(CountTool(), Plan(NoBranching(), 4), policy, mode=mode, policy_timeout=0.1)
    assert sorted(statuses(tree)) == sorted([status] + [Status.ANSWERED] * 3)


def test_a_policy_that_fails_after_the_probe_keeps_the_probe() -> None:
    async def raises() -> None:
        raise RuntimeError

    first: list[int] = []

    def script(before: str, seed: int) -> str:
        if results(before) == 0:
            return "<count>x</count>"
        if not first:
            first.append(seed)
        return f"<answer>{BAD}</answer>" if seed == first[0] else "<answer>1</answer>"

    policy = Troubled(script)
    policy.trouble, policy.at = raises, 1
    (tree,) = grow(CountTool(), Plan(Coin(2, 0.0, probe=5), 2), policy)
    leaf = next(n for n in tree.nodes if n.status is Status.POLICY_FAULT)
    assert (leaf.text, len(leaf.logprobs)) == ("<answ", 5)


# --- forks -----------------------------------------------------------------------------------------------


@BOTH
def test_children_that_cannot_be_made_are_leaves_and_their_siblings_go_on(mode: str) -> None:
    made: list[int] = []

    def every_other(history: tuple[str, ...]) -> bool:
        made.append(1)
        return bool(history) and len(made) % 2 == 0

    tool = CountTool(clone_hook=every_other)
    (tree,) = grow(tool, Plan(Coin(1, 1.0, 3), 7), calls_then_answer(2), mode=mode)
    assert len(tree.leaves()) == 7
    failed = [n for n in tree.nodes if n.status is Status.CLONE_FAILED]
    assert failed
    assert all(n.tokens == () and n.origin == "branch" for n in failed)
    assert Status.ANSWERED in statuses(tree)
    assert tool.opened == tool.closed


@pytest.mark.parametrize(
    "error", [OSError("connection lost"), CloneError("no"), TimeoutError()], ids=lambda e: type(e).__name__
)
def test_a_session_that_raises_in_clone_fails_its_children_only(error: Exception) -> None:
    def clone_hook(history: tuple[str, ...]) -> bool:
        if history:
            raise error
        return False

    (tree,) = grow(CountTool(clone_hook=clone_hook), Plan(Coin(2, 1.0, 2), 4), calls_then_answer(2))
    assert sorted(statuses(tree)) == ["answered", "answered", "clone_failed", "clone_failed"]


def test_a_hanging_clone_fails_its_children_only() -> None:
    release = threading.Event()
    tool = CountTool(clone_hook=lambda history: bool(history) and release.wait(30.0) and False)
    (tree,) = grow(tool, Plan(Coin(1, 1.0, 2), 3), calls_then_answer(1), tool_timeout=0.1)
    assert sorted(statuses(tree)) == ["answered", "clone_failed", "clone_failed"]
    release.set()
    deadline = time.monotonic() + 5.0
    while tool.opened != tool.closed and time.monotonic() < deadline:
        time.sleep(0.005)
    assert tool.opened == tool.closed, "children that came too late were closed"


def test_something_that_can_never_be_copied_is_the_users_to_mend() -> None:
    class Locked(CountEnv):
        def step(self, action: str) -> Any:
            self.lock = threading.Lock()
            return super().step(action)

    with pytest.raises(NotForkable, match=r"Locked\.lock"):
        grow(env=Locked, plan=Plan(Coin(1), 3), script=calls_then_answer(2))


def test_a_snapshot_that_fails_does_not_end_its_path() -> None:
    tool = CountTool(clone_hook=lambda history: len(history) == 1)
    (tree,) = grow(tool, Plan(Coin(1, 0.0, keeps="action"), 1), calls_then_answer(2))
    assert statuses(tree) == [Status.ANSWERED]


# --- whole prompts ---------------------------------------------------------------------------------------


def test_when_everything_fails_the_first_cause_is_raised() -> None:
    with pytest.raises(RolloutError, match="All 6 paths failed; the first because of: ValueError") as caught:
        grow(CountTool(hook=lambda history: raising(ValueError("why"))()), Plan(rollouts=3), prompts=2)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("forking", [True, False])
def test_an_episode_that_does_not_start_costs_one_prompt(forking: bool) -> None:
    class Moody(CountEnv):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            if seed == 1:
                raise OSError("no server")
            return super().reset(seed=seed, options=options)

    plan = Plan(Coin(2, 0.5) if forking else NoBranching(), 4)
    trees = grow(env=Moody, plan=plan, prompts=3)
    assert [len(tree.leaves()) for tree in trees] == [4, 4, 4]
    assert set(statuses(trees[1])) == {Status.TOOL_FAULT}
    assert set(statuses(trees[0]) + statuses(trees[2])) == {Status.ANSWERED}
    assert trees[1].freeze().to_json() == trees[1].to_json()


def test_a_restart_that_fails_costs_one_leaf() -> None:
    resets: list[int] = []

    class Moody(CountEnv):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            resets.append(1)
            if len(resets) == 3:
                raise OSError("no server")
            return super().reset(seed=seed, options=options)

    tool = CountTool(fork_level=ForkLevel.NONE)
    (tree,) = grow(env=lambda: Moody(tool), plan=Plan(NoBranching(), 4))
    assert sorted(statuses(tree)) == ["answered", "answered", "answered", "clone_failed"]
    assert tool.opened == tool.closed


def test_one_users_mistake_ends_all_prompts_without_leftovers() -> None:
    class Mistaken(ScriptedRenderer):
        def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
            raise ConfigError("this renderer is no good")

    tool = CountTool()
    with pytest.raises(ConfigError, match="no good"):
        grow(tool, Plan(Coin(3, 0.5), 8), prompts=3, renderer=Mistaken())
    assert tool.opened == tool.closed


def test_closing_may_fail_or_hang_without_harm() -> None:
    release = threading.Event()

    class Clingy(CountEnv):
        def close(self) -> None:
            super().close()
            if release.is_set():
                raise OSError("already gone")
            release.wait(0.15)
            release.set()

    (tree,) = grow(env=Clingy, plan=Plan(Coin(1, 1.0, keeps="action"), 3), tool_timeout=0.05)
    assert statuses(tree) == [Status.ANSWERED] * 3


# --- environments that are not ours ----------------------------------------------------------------------


class Foreign(gym.Env[str, str]):
    """A text environment that knows nothing of dialects, forfeits or anchors."""

    def __init__(self) -> None:
        self.observation_space = TextSpace()
        self.action_space = TextSpace()
        self.turn = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turn = 0
        return "go", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        return f"turn {self.turn}", 0.5, self.turn == 3, False, {}


def test_a_foreign_environment_runs_under_grpo() -> None:
    policy = ScriptedPolicy(lambda before, seed: "step\n", context_length=200)
    (tree,) = grow(env=Foreign, plan=Plan(rollouts=2), script=policy)
    assert statuses(tree) == [Status.ANSWERED] * 2
    assert [tree.total_reward(leaf) for leaf in tree.leaves()] == [1.5, 1.5]
    tight = ScriptedPolicy(lambda before, seed: "step\n", context_length=8)
    (tree,) = grow(env=Foreign, plan=Plan(rollouts=2), script=tight, answer_reserve=1)
    assert statuses(tree) == [Status.CONTEXT_FULL] * 2
    assert [tree.total_reward(leaf) for leaf in tree.leaves()] == [0.5, 0.5]


def test_wrapped_environments_fork_with_their_wrappers() -> None:
    def stacked() -> Any:
        return gym.wrappers.TimeLimit(gym.wrappers.OrderEnforcing(CountEnv()), max_episode_steps=2)

    policy = ScriptedPolicy(calls_then_answer(5))
    run = collect(stacked, [Start(0)], policy, ScriptedRenderer(), Plan(Coin(1), 3), seed=0)
    (tree,) = asyncio.run(run)
    assert isinstance(tree, RolloutTree)
    assert statuses(tree) == [Status.TRUNCATED] * 3, "the limit's count travels with the fork"
