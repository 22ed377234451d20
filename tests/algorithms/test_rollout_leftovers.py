"""When `collect` ends or is cancelled, no thread, task or environment is left."""

import asyncio
import contextlib
import threading
import time
from dataclasses import replace

import pytest
from rollout_toys import Coin, CountEnv, CountTool, Plan, varied

from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import collect
from algorithms.rollout.run import Limits, Start
from algorithms.rollout.threads import ToolThreads

BOTH = pytest.mark.parametrize("mode", ["deterministic", "free"])


def settled(tool: CountTool) -> bool:
    """Whether every session that was opened is closed."""
    return tool.opened == tool.closed


@BOTH
def test_threads_and_tasks_end_with_collect(mode: str) -> None:
    before = threading.active_count()

    async def all_of_it() -> set[asyncio.Task[object]]:
        await collect(CountEnv, [Start(0), Start(1)], ScriptedPolicy(varied), ScriptedRenderer(), Plan(Coin(2, 0.5), 8), seed=1,
                      limits=Limits(mode=mode))  # fmt: skip
        return asyncio.all_tasks()

    assert len(asyncio.run(all_of_it())) == 1
    deadline = time.monotonic() + 5.0
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert threading.active_count() <= before


@BOTH
@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8, 13, 30])
def test_cancelling_collect_leaves_no_task_and_no_open_environment(mode: str, ticks: int) -> None:
    tool = CountTool(hook=lambda history: time.sleep(0.002))

    async def cancelled() -> set[asyncio.Task[object]]:
        plan = Plan(replace(Coin(3, 0.6, 2, probe=2), keeps="action"), 12)
        run = collect(lambda: CountEnv(tool), [Start(0), Start(1)], ScriptedPolicy(varied), ScriptedRenderer(), plan, seed=1,
                      limits=Limits(mode=mode))  # fmt: skip
        task = asyncio.create_task(run)
        for _ in range(ticks):
            await asyncio.sleep(0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # it may have ended before
            await task
        return asyncio.all_tasks()

    assert len(asyncio.run(cancelled())) == 1
    deadline = time.monotonic() + 5.0
    while not settled(tool) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert settled(tool), (tool.opened, tool.closed)


def test_thread_pool_reuses_idle_threads_and_keeps_to_its_limit() -> None:
    async def work() -> tuple[int, int]:
        pool, busy, most, together = ToolThreads(limit=3), [], [], threading.Barrier(3)

        def job() -> str:
            busy.append(1)
            most.append(len(busy))
            together.wait(20.0)  # three do run at the same time
            busy.pop()
            return threading.current_thread().name

        await asyncio.gather(*(pool.run(30.0, job) for _ in range(12)))
        threads = pool.threads
        pool.close()
        return max(most), threads

    assert asyncio.run(work()) == (3, 3)


def test_calls_that_wait_for_each_other_all_get_a_thread() -> None:
    async def work() -> list[int]:
        pool, barrier = ToolThreads(), threading.Barrier(24)
        places = await asyncio.gather(*(pool.run(20.0, barrier.wait, 20.0) for _ in range(24)))
        pool.close()
        return places

    assert sorted(asyncio.run(work())) == list(range(24))


def test_a_call_behind_one_that_hangs_is_carried_out() -> None:
    async def work() -> tuple[list[object], int, int]:
        pool, release = ToolThreads(limit=1), threading.Event()
        outcomes = await asyncio.gather(pool.run(0.05, release.wait), pool.run(20.0, int), return_exceptions=True)
        release.set()
        threads = pool.threads
        pool.close()
        return [type(outcome) for outcome in outcomes], threads, pool.abandoned

    assert asyncio.run(work()) == ([TimeoutError, int], 1, 1)
