"""Disasters of the nodes of a Ray cluster, at moments drawn by a seed: they vanish, hang or are cut off at work."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest
from cluster_toys import HASTY, alone, elsewhere, engines
from disaster_toys import Census, descendants, happened, moment, orphans_here, reap_orphans
from rollout_toys import CountEnv, CountTool, History
from test_cluster_ray import Weightless
from test_cluster_runs import HERE, arguments, assert_same, lives, one_process
from test_disasters import CALLS, PROMPTS, assert_equal

from algorithms.rollout import Collected, Failures
from arpo_envs.tools import ToolResult

__all__ = ["one_process"]

NODES = 3
PATIENCE = replace(HASTY, start=120.0, silence=15.0)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Gate:
    """Makes environments that count; from a certain call on, calls wait for a file "done", and say which processes wait."""

    folder: Path
    at: int

    def __call__(self) -> CountEnv:
        return CountEnv(CountTool(hook=self.hook))

    def hook(self, history: History) -> ToolResult | None:
        if happened(self.folder / "journal") >= self.at:
            (self.folder / f"waiting-{os.getpid()}").touch()
            _wait_for(lambda: (self.folder / "done").exists())
        return None

    def waiting(self) -> list[int]:
        """Returns the processes in which a call waits."""
        return sorted(int(file.name.partition("-")[2]) for file in self.folder.glob("waiting-*"))


def _wait_for(is_so: Callable[[], bool]) -> None:
    for _ in range(1200):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("It does not happen.")


def wait_until_ended(processes: Collection[int]) -> None:
    for _ in range(600):
        if not any(map(lives, processes)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{[pid for pid in processes if lives(pid)]} do not end")


@contextmanager
def nothing_left_of_ray() -> Iterator[str]:
    """Gives a folder with a short name, as the paths of Ray's sockets hold 107 bytes; afterwards nothing else may be left."""
    folder = tempfile.mkdtemp(prefix="arpo-")
    resource_tracker.ensure_running()  # for the whole life of this process
    with orphans_here():
        before = Census.now()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
        deadline = time.monotonic() + 60.0
        while (left := _left(before)) and time.monotonic() < deadline:
            time.sleep(0.1)
        reap_orphans()
        assert not left, left


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Gives a real Ray cluster on this machine: a head that has no processors, and nodes that have one each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patched, nothing_left_of_ray() as folder:
        patched.setenv("PYTHONPATH", os.pathsep.join([*HERE, os.environ.get("PYTHONPATH", "")]))
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_worker_niceness", "0")
        own = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=own)
        try:
            patched.setenv("RAY_ADDRESS", cluster.address)
            yield cluster
        finally:
            cluster.shutdown()


def _left(before: Census) -> dict[str, Any]:
    """Returns what is left of a cluster, the threads and files of Ray's library in this process aside."""
    found = Census.now().beyond(before)
    return {what: found[what] for what in ("processes", "shared memory") if what in found}


def complete(cluster: Any) -> list[Any]:
    """Adds nodes until there are enough; returns them."""
    while len(cluster.worker_nodes) < NODES:
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    return sorted(cluster.worker_nodes, key=lambda node: str(node.unique_id))


@pytest.mark.parametrize(
    ("vanishing", "killed", "seed"), [pytest.param(1, 0, 0, marks=pytest.mark.thorough), (2, 0, 2), (1, 1, 3)]
)
def test_nodes_that_vanish_cost_nothing_but_time(vanishing: int, killed: int, seed: int, nodes: Any, tmp_path: Path) -> None:
    one, failures = asyncio.run(alone(CountEnv, PROMPTS)), Failures(lambda what, error: None)
    gate = Gate(tmp_path, *moment(seed, CALLS // 2))
    known = complete(nodes)

    def strike(workers: dict[int, str]) -> None:
        _wait_for(lambda: len(gate.waiting()) >= vanishing + killed)
        busy = random.Random(seed).sample(gate.waiting(), vanishing + killed)
        gone = {workers[pid] for pid in busy[killed:]}
        for pid in busy[:killed]:
            os.kill(pid, signal.SIGKILL)
        for node in [node for node in known if node.node_id in gone]:
            nodes.remove_node(node, allow_graceful=False)
        wait_until_ended(busy)  # they outlive their node by a moment
        (tmp_path / "done").touch()

    async def run() -> tuple[Collected, dict[int, str]]:
        import ray

        async with engines(Weightless(tmp_path / "run"), count=NODES, patience=PATIENCE) as policy:
            workers = dict(ray.get([engine.worker.__ray_call__.remote(_place) for engine in policy.fleet.all]))
            assert len(set(workers.values())) == NODES, "one on each node"
            striking = asyncio.ensure_future(asyncio.to_thread(strike, workers))
            found = await elsewhere(policy, gate, PROMPTS, failures=failures)
            await striking
            return found, workers

    found, workers = asyncio.run(run())
    assert_equal(found.trees, one.trees)
    assert found.counts["engines_lost"] >= vanishing + killed
    assert failures.counted() == []
    wait_until_ended(workers)


@pytest.mark.thorough  # it takes Ray a minute to give a node up
@pytest.mark.parametrize("hanging", [1, 2])
def test_nodes_that_hang_cost_nothing_but_time_and_their_workers_end_when_they_go_on(
    hanging: int, nodes: Any, tmp_path: Path
) -> None:
    """Nothing of them is dead: their sockets stay open, and say nothing."""
    one, failures = asyncio.run(alone(CountEnv, PROMPTS)), Failures(lambda what, error: None)
    gate = Gate(tmp_path, *moment(hanging, CALLS // 2))
    known, stopped, places = complete(nodes), set[int](), set[str]()

    def strike(workers: dict[int, str]) -> None:
        _wait_for(lambda: len(gate.waiting()) >= hanging)
        places.update(workers[pid] for pid in random.Random(hanging).sample(gate.waiting(), hanging))
        for node in [node for node in known if node.node_id in places]:
            for own in node.live_processes():
                stopped.update({own[1].pid} | descendants(own[1].pid))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        (tmp_path / "done").touch()

    async def run() -> tuple[Collected, dict[int, str]]:
        import ray

        async with engines(Weightless(tmp_path / "run"), count=NODES, patience=PATIENCE) as policy:
            workers = dict(ray.get([engine.worker.__ray_call__.remote(_place) for engine in policy.fleet.all]))
            assert len(set(workers.values())) == NODES, "one on each node"
            striking = asyncio.ensure_future(asyncio.to_thread(strike, workers))
            found = await elsewhere(policy, gate, PROMPTS, failures=failures)
            await striking
            return found, workers

    try:
        found, workers = asyncio.run(run())
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert_equal(found.trees, one.trees)
    assert found.counts["engines_lost"] >= hanging
    assert failures.counted() == []
    wait_until_ended(workers)
    for node in known:
        if node.node_id in places:
            nodes.remove_node(node, allow_graceful=False)  # Ray may have given it up, or not yet


@pytest.mark.thorough
def test_a_node_that_is_cut_off_costs_nothing_but_time_and_its_workers_end_when_it_is_back(
    one_process: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    if shutil.which("ip") is None or subprocess.run(["unshare", "-Urn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process cannot have a network of its own here")
    script, (number,) = str(Path(__file__).with_name("disaster_apart.py")), moment(0, CALLS // 2)
    apart = ["unshare", "-Urn", "--kill-child", sys.executable, script]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"COLUMNS": "200"}
    with nothing_left_of_ray() as folder:
        train = arguments(tiny_policy, tmp_path / "run", "--cluster", "ray", "--engines", "2")
        command = [*apart, folder, str(number), "--", *train]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{done.stdout[-2000:]} {done.stderr[-2000:]}"
        assert Path(folder, "struck").read_text(encoding="utf-8"), "there was a worker"
    assert "was lost: It gave no sign of life" in done.stdout
    assert_same(tmp_path / "run", one_process)


def _place(worker: Any) -> tuple[int, str]:
    import ray

    return os.getpid(), str(ray.get_runtime_context().get_node_id())
