"""An engine begins a prompt when another one has ended: none waits for the slowest, and none for the tools of another."""

import asyncio
import pickle
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cluster_toys import HASTY, PLAN, InProcess, engines
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import CountEnv, CountTool, History, varied
from test_grown_again import TASKS, Shared, kills

from algorithms.cluster import Equipment, Listener, Lost, Standing, collect_elsewhere, growing
from algorithms.cluster.growing import OVERBOOKED, Plan
from algorithms.cluster.local import LocalLauncher
from algorithms.cluster.worker import Answer, EngineFailed, Worker
from algorithms.policies import AT_ONCE, Generation, Sampling
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Collected, Failures, Limits, Start, batch, try_collect
from algorithms.tree import RolloutTree, Status
from arpo_envs import ConfigError
from arpo_envs.tools import ToolResult

pytestmark = pytest.mark.timeout(60)

STARTS = [Start(seed=place, options={"task": task}) for place, task in enumerate(TASKS)]


def collected(
    launcher: InProcess,
    make_env: Any = CountEnv,
    *,
    policy: Any = None,
    count: int = 1,
    attempts: int = 3,
    shown: list[Standing] | None = None,
    **limits: Any,
) -> Collected:
    """Returns the trees of eight tasks, from engines in this process."""
    make = lambda: Equipment(policy or ScriptedPolicy(varied), ScriptedRenderer())  # noqa: E731

    async def run() -> Collected:
        async with engines(launcher, make, count, replace(HASTY, attempts=attempts, pause=0.0)) as stand_in:
            if shown is not None:
                stand_in.fleet.listener = Listener(show=shown.append)
            told = {"seed": 3, "limits": Limits(**limits), "failures": Failures(lambda what, error: None)}
            return await collect_elsewhere(make_env, STARTS, stand_in, ScriptedRenderer(), PLAN, **told)  # type: ignore[arg-type]

    return asyncio.run(run())


@cache
def undisturbed() -> list[RolloutTree]:
    """Returns what one process collects."""
    policy, renderer = ScriptedPolicy(varied, version=7), ScriptedRenderer()
    return asyncio.run(try_collect(CountEnv, STARTS, policy, renderer, PLAN, seed=3)).trees


# --- when prompts begin ------------------------------------------------------------------------------------------


class Waiting(ScriptedPolicy):
    """Answers the first task only when all others have begun.

    Args:
        at_once: how many requests it says that it draws at a time.
    """

    def __init__(self, at_once: int) -> None:
        super().__init__(varied)
        self.at_once, self.begun, self.all = at_once, set[str](), asyncio.Event()

    async def generate(self, context: Any, *arguments: Any, **told: Any) -> Generation:
        task = next(task for task in TASKS if f"Question {task}?" in "".join(map(chr, context)))
        self.begun.add(task)
        if len(self.begun) == len(TASKS):
            self.all.set()
        if task == TASKS[0]:
            await self.all.wait()
        return await super().generate(context, *arguments, **told)


@pytest.mark.parametrize("mode", ["deterministic", "free"])
@pytest.mark.parametrize("room", [2, 3, 8])
def test_no_prompt_waits_for_the_slowest_tree(mode: str, room: int) -> None:
    shown: list[Standing] = []
    found = collected(InProcess(iter([])), policy=Waiting(room * PLAN.rollouts // OVERBOOKED), shown=shown, mode=mode)
    assert found.trees == undisturbed()
    assert max(one.under_way for one in shown) == room, "no more than there is room for"
    assert all(one.done + one.under_way + one.waiting == len(TASKS) for one in shown)


@dataclass
class Noting(InProcess):
    """Notes which prompts each call gives to an engine."""

    given: list[tuple[int, ...]] = field(default_factory=list)

    async def call(self, worker: Worker, method: str, *arguments: Any) -> Answer:
        if method == "grow":
            self.given.append(tuple(arguments[0]))
        return await super().call(worker, method, *arguments)


def test_engines_that_have_room_share_prompts_equally() -> None:
    launcher = Noting(iter([]))
    collected(launcher, count=3)
    assert [len(one) for one in launcher.given if one] == [3, 3, 2]
    assert sorted(position for one in launcher.given for position in one) == [*range(8)]
    assert AT_ONCE.of(ScriptedPolicy(varied)) * OVERBOOKED // PLAN.rollouts > 3, "there was room for more"


# --- what costs an engine, or a tool, costs no other tree ---------------------------------------------------------


@dataclass
class Cursed(InProcess):
    """Loses each worker that certain prompts are given to."""

    killers: frozenset[int] = frozenset()

    async def call(self, worker: Worker, method: str, *arguments: Any) -> Answer:
        if method == "grow" and self.killers & {*arguments[0]}:
            raise Lost("It ran out of memory.")
        return await super().call(worker, method, *arguments)


@settings(max_examples=15, deadline=None)
@given(killers=st.frozensets(st.integers(0, 7), max_size=3), count=st.integers(1, 3), attempts=st.integers(2, 3))
def test_a_prompt_that_costs_every_engine_its_process_fails_alone(killers: frozenset[int], count: int, attempts: int) -> None:
    found = collected(Cursed(iter([]), killers=killers), count=count, attempts=attempts)
    for position, (tree, wanted) in enumerate(zip(found.trees, undisturbed(), strict=True)):
        if position in killers:
            assert {node.status for node in tree.nodes[1:]} == {Status.POLICY_FAULT}
        else:
            assert tree == wanted
    assert found.counts["engines_lost"] >= (attempts if killers else 0)


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_FIRST_WAIT", 0.0)


@dataclass(frozen=True)
class Deadly:
    """Makes environments whose tool is one server in each engine, which episodes of some tasks take down."""

    killers: str
    depth: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "tool", Shared(self.killers, self.depth))

    def __call__(self) -> CountEnv:
        return CountEnv(self.tool)  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        return Deadly, (self.killers, self.depth)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(("killers", "depth", "attempts"), [("", 1, 3), ("a", 1, 3), ("cf", 2, 3), ("bh", 1, 2), ("e", 3, 2)])
def test_a_tree_that_takes_down_the_tool_of_its_engine_runs_out_of_attempts_alone(
    killers: str, depth: int, attempts: int
) -> None:
    found = collected(InProcess(iter([])), Deadly(killers, depth), **{"attempts": attempts})
    for task, tree, wanted in zip(TASKS, found.trees, undisturbed(), strict=True):
        if task in killers and kills(wanted, depth):
            assert any(node.status is Status.TOOL_FAULT for node in tree.nodes), task
        else:
            assert tree == wanted, task


class _Calls:
    """Calls of a tool in this process: how many are under way, and how many there were at most."""

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def __call__(self, history: History) -> ToolResult | None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        with self.lock:
            self.now -= 1
        return None


_calls = _Calls()


def counted_env() -> CountEnv:
    return CountEnv(CountTool(hook=_calls))


def test_tool_calls_of_all_trees_share_the_threads_of_their_engine() -> None:
    before = {*threading.enumerate()}
    assert collected(InProcess(iter([])), counted_env, threads=3).trees == undisturbed()
    assert _calls.most == 3
    for thread in {*threading.enumerate()} - before:
        thread.join(30.0)
        assert not thread.is_alive(), "they end with the batch"


# --- a worker that can never begin ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fates", [["before"], ["before"] * 2, ["before"] * 3])
def test_an_engine_that_is_lost_before_it_gets_a_prompt_costs_none(fates: list[str]) -> None:
    found = collected(InProcess(iter(fates), "begin"), count=2)
    assert found.trees == undisturbed()
    assert (found.counts["engines_lost"], found.counts["prompts_retried"]) == (len(fates), 0)


def test_when_no_engine_can_begin_the_batch_ends() -> None:
    found = collected(InProcess(iter(["before"] * 6), "begin"), count=2)
    assert {node.fault for tree in found.trees for node in tree.nodes[1:]} == {"Lost: Struck before."}


@dataclass
class Idling(InProcess):
    """Loses the second worker that grows trees once the first has nothing to do; notes the calls of the first from then on."""

    first: Worker | None = None
    left: set[int] = field(default_factory=set)
    lost: bool = False
    called: list[str] = field(default_factory=list)

    async def call(self, worker: Worker, method: str, *arguments: Any) -> Answer:
        if method == "grow" and self.first in (None, worker):
            self.first = worker
            self.left |= {*arguments[0]}
        elif method == "grow" and not self.lost:
            while self.left:
                await asyncio.sleep(0.001)
            for _ in range(100):  # in fewer turns of the loop, who has nothing to do has come to waiting
                await asyncio.sleep(0)
            self.lost = True
            raise Lost("Struck while the other one was idle.")
        if worker is self.first and self.lost:
            self.called.append(method)
        answer = await super().call(worker, method, *arguments)
        if method == "grow" and worker is self.first:
            self.left -= {*answer.value.positions}
        return answer


def test_an_engine_that_has_been_idle_is_asked_for_a_sign_before_it_gets_prompts() -> None:
    launcher = Idling(iter([]))
    assert collected(launcher, count=2).trees == undisturbed()
    assert launcher.called[:2] == ["begin", "grow"]


# --- what an engine's failure is, and what it is not ---------------------------------------------------------------


class Crowded(ScriptedPolicy):
    """Does not get round to single tokens."""

    async def generate(self, context: Any, params: Any, **told: Any) -> Generation:
        if params.max_tokens == 1:
            await asyncio.sleep(3600.0)
        return await super().generate(context, params, **told)


def test_a_policy_that_draws_for_others_has_not_failed() -> None:
    async def run() -> None:
        worker = Worker(lambda: Equipment(Crowded(varied), ScriptedRenderer()))
        asked = asyncio.ensure_future(worker._require_drawing(3600.0))
        await asyncio.sleep(0.01)
        assert not asked.done()
        await worker._equipment.policy.generate([1], Sampling(2), seed=0)
        await asked
        with pytest.raises(EngineFailed, match=r"it has drawn nothing for 0\.05 s"):
            await worker._require_drawing(0.05)

    asyncio.run(run())


def test_trees_do_not_outlive_the_error_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def collect(make_env: Any, starts: Any, *arguments: Any, first: int, **told: Any) -> Collected:
        await asyncio.sleep(3600.0 if first else 0.0)
        raise ConfigError("These parts do not fit together.")

    async def run() -> None:
        worker = Worker(lambda: Equipment(ScriptedPolicy(varied), ScriptedRenderer()))
        await worker.begin(pickle.dumps(Plan(CountEnv, PLAN.branching, PLAN.rollouts, 3, 0, Limits())), 0)
        with pytest.raises(ConfigError, match="do not fit together"):
            await worker.grow(dict(enumerate(STARTS)))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    monkeypatch.setattr(growing, "try_collect", collect)
    asyncio.run(run())


# --- a process between two calls -----------------------------------------------------------------------------------


class Ticking:
    """Goes on with something when its call has returned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def answer(self, method: str, *arguments: Any) -> Answer:
        async def later() -> None:
            await asyncio.sleep(0.1)
            (self.folder / "later").touch()

        self.later = asyncio.ensure_future(later())
        return Answer(not (self.folder / "later").exists())

    async def close(self) -> None: ...


def test_what_is_under_way_in_a_process_does_not_wait_for_the_next_call(tmp_path: Path) -> None:
    async def run() -> None:
        launcher = LocalLauncher(tmp_path / "run")
        try:
            worker = launcher.create(tmp_path, Ticking)
            assert (await launcher.call(worker, "begin")).value
            for _ in range(3000):
                if (tmp_path / "later").exists():
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("It has not gone on.")
        finally:
            await launcher.close()

    asyncio.run(run())


class Leaving:
    """Ends the process, as it thinks."""

    def __init__(self, code: int) -> None:
        self.code = code

    async def answer(self, method: str, *arguments: Any) -> Answer:
        if method == "leave":
            sys.exit(self.code)
        return Answer(method)


def test_code_that_exits_is_told_and_ends_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        launcher = LocalLauncher(tmp_path / "run")
        try:
            worker = launcher.create(3, Leaving)
            for _ in range(2):
                error = (await launcher.call(worker, "leave")).error
                assert str(error) == "leave called sys.exit(3)."
                assert (await launcher.call(worker, "stay")).value == "stay"
        finally:
            await launcher.close()

    asyncio.run(run())
