"""Rollouts as actors of Ray: on a cluster of three nodes, and on one that is started for a run."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_toys import HASTY, Scripted, alone, disaster, elsewhere, engines, lives
from rollout_toys import CountEnv
from test_cluster_runs import HERE, arguments, assert_same, one_process

from algorithms.cli import main
from algorithms.cluster import Listener, Lost, clear
from algorithms.cluster.ray_actors import RayLauncher
from algorithms.rollout import Collected
from arpo_envs import ConfigError

__all__ = ["one_process"]

PROMPTS = 9

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Weightless(RayLauncher):
    """Starts actors whose policies have no weights."""

    def publish(self, weights: Any, version: int) -> Any:
        return {}

    def withdraw(self, published: Any) -> None:
        assert published == {}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives a real Ray cluster of three nodes on this machine."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*HERE, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # or workers wait for all other tests
    from ray.cluster_utils import Cluster

    own = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=own)
    try:
        for _ in range(2):
            cluster.add_node(**{name: own[name] for name in ("num_cpus", "object_store_memory")})
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    finally:
        cluster.shutdown()


def test_trees_are_those_of_one_process_whatever_happens_to_three_nodes(nodes: Any, tmp_path: Path) -> None:
    one = asyncio.run(alone(CountEnv, PROMPTS))
    disasters = {"undisturbed": 0, "killed": 1, "killed together": 2, "stopped": 1}

    async def run() -> dict[str, Collected]:
        import ray

        found = {}
        async with engines(Weightless(tmp_path / "run"), count=3, patience=replace(HASTY, silence=5.0)) as policy:
            places = ray.get([engine.worker.__ray_call__.remote(_node) for engine in policy.fleet.all])
            assert len(set(places)) == 3, "one on each node"
            for what, times in disasters.items():
                make_env = disaster(tmp_path / what, what.partition(" ")[0], times)
                found[what] = await elsewhere(policy, make_env, PROMPTS)
            # Actors that were made anew may share a node: the one that is removed has one, and isn't the head.
            places = ray.get([engine.worker.__ray_call__.remote(_node) for engine in policy.fleet.all])
            node = next(node for node in nodes.list_all_nodes() if node.node_id in places and not node.head)
            slow, gone = disaster(tmp_path / "slow", "slow", PROMPTS), list[Any]()

            def remove(standing: Any) -> None:
                if not gone:
                    gone.append(asyncio.ensure_future(asyncio.to_thread(nodes.remove_node, node, allow_graceful=False)))

            policy.fleet.listener = Listener(show=remove)
            found["a node"] = await elsewhere(policy, slow, PROMPTS)
            await gone[0]
            found["two nodes"] = await elsewhere(policy, CountEnv, PROMPTS)
        return found

    found = asyncio.run(run())
    for what, batch in found.items():
        assert [tree.to_json() for tree in batch.trees] == [tree.to_json() for tree in one.trees], what
    assert [found[what].counts["engines_lost"] for what in disasters] == [0, 1, 2, 1]
    assert found["a node"].counts["engines_lost"] + found["two nodes"].counts["engines_lost"] >= 1


def _node(worker: Any) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def process(worker: Any) -> int:
    """Returns the process that an actor is in."""
    return os.getpid()


def test_a_run_on_three_nodes_is_that_of_one_process_bit_for_bit(
    nodes: Any, tiny_policy: Path, one_process: Path, tmp_path: Path
) -> None:
    assert main(arguments(tiny_policy, tmp_path / "run", "--cluster", "ray", "--engines", "3")) == 0
    assert_same(tmp_path / "run", one_process)


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_the_main_runs_first_steps_on_three_nodes_are_those_of_one_process_bit_for_bit(nodes: Any, tmp_path: Path) -> None:
    words = ["train", "--steps", "2", "--eval-questions", "8", "--threads", "1", "--engine-args", "batch_invariant=True"]
    assert main([*words, "--output", str(tmp_path / "one")]) == 0
    assert main([*words, "--output", str(tmp_path / "run"), "--cluster", "ray", "--engines", "3"]) == 0
    assert_same(tmp_path / "run", tmp_path / "one", trees=48)


def test_neither_a_secret_nor_the_working_directory_reaches_the_actors_of_a_running_cluster(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "notes.txt").touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("ARPO_API_KEY", "secret of this test")

    async def run() -> tuple[list[str], str, dict[str, Any]]:
        import ray

        async with engines(Weightless(tmp_path / "run"), count=1) as policy:
            found: tuple[list[str], str, dict[str, Any]] = ray.get(policy.fleet.all[0].worker.__ray_call__.remote(_held))
            return found

    variables, folder, sent = asyncio.run(run())
    assert len(variables) > 4, "there is something to see"
    assert not [variable for variable in variables if "secret of this test" in variable]
    assert Path(folder) != here
    assert not list(Path(folder).rglob("notes.txt"))
    assert not {"working_dir", "py_modules", "env_vars"} & sent.keys()


def _held(worker: Any) -> tuple[list[str], str, dict[str, Any]]:
    """Returns an actor's environment variables, its working directory, and what was sent to it to run in."""
    import ray

    sent = dict(ray.get_runtime_context().runtime_env)
    return [f"{name}={value}" for name, value in os.environ.items()], os.getcwd(), sent


def test_engines_for_which_no_node_has_room_are_refused_at_once(nodes: Any, tmp_path: Path) -> None:
    """Ray would wait for a node that has it."""
    import ray

    asked = r"2 processes ask for 1 GPU and 0\.001 CPU each, and the Ray cluster has room for 0: .* has 1 CPU and 0 GPU;"
    with pytest.raises(ConfigError, match=asked):
        RayLauncher(tmp_path, gpus=1.0, count=2)
    assert not ray.is_initialized()
    nodes.add_node(num_cpus=1, num_gpus=1, object_store_memory=100 << 20)

    async def run() -> None:
        launcher = RayLauncher(tmp_path, gpus=1.0)
        worker = launcher.create(Scripted())
        assert (await launcher.call(worker, "prepare")).error is None
        with pytest.raises(Lost, match=r"2 processes ask .* room for 1"):
            launcher.create(Scripted())
        launcher.kill(worker)
        assert (await launcher.call(launcher.create(Scripted()), "prepare")).error is None
        await launcher.close()

    asyncio.run(run())


FRESH = """
import asyncio, json, os, signal, sys
sys.path[:0] = {here!r}
from pathlib import Path
from cluster_toys import Nesting
from test_cluster_ray import Weightless, asked, below, engines, process, wide_open

async def run():
    nesting = Nesting(Path(sys.argv[1]) / "told")
    async with engines(Weightless(Path(sys.argv[1])), nesting) as policy:
        own = (Path(sys.argv[1]) / "cluster" / "temporary-folder").read_text(encoding="utf-8")
        kept = signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        told = [own, wide_open(), below(), kept, str(nesting.left()[1]), asked()]
        print(json.dumps(told), flush=True)
        for engine in policy.fleet.all[:1]:
            os.kill(await engine.worker.__ray_call__.remote(process), signal.SIGKILL)
            while [isinstance(one, int) for one in nesting.left()].count(True) > 1:
                await asyncio.sleep(0.1)
        if sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(run())
"""


def test_a_cluster_of_its_own_listens_to_this_machine_only_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    script, folders = tmp_path / "fresh.py", []
    (tmp_path / "run" / "told").mkdir(parents=True)
    script.write_text(FRESH.format(here=HERE), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = os.pathsep.join([*HERE, os.environ.get("PYTHONPATH", "")])
    environment["RAY_worker_niceness"] = "0"
    for how, status in (("killed", -signal.SIGKILL), ("closed", 0)):
        words = [sys.executable, "-W", "error", str(script), str(tmp_path / "run"), how]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == status, done.stderr
        own, wide, processes, kept, temporary, answers = json.loads(done.stdout.splitlines()[0])
        assert answers == {
            "no token": "AuthenticationError",
            "another token": "AuthenticationError",
            "its token": "1 node",
            "dashboard": "",
        }
        assert Path(temporary).is_relative_to(own)
        assert wide == []
        assert kept, "what SIGTERM does is up to the run"
        assert len(processes) > 6, "those of Ray, two workers, and what they have started"
        for _ in range(1800):
            if not any(map(lives, processes)):
                break
            time.sleep(0.1)
        assert [process for process in processes if lives(process)] == [], how
        folders.append(Path(own))
        assert folders[-1].exists() == (how == "killed")
    assert not folders[0].exists(), "the next start removes what a killed one has left"
    assert not (tmp_path / "run" / "cluster").exists()


TWICE = """
import asyncio, os, signal, sys
sys.path[:0] = {here!r}
from pathlib import Path
from cluster_toys import Nesting
from test_cluster_ray import Weightless, engines
from algorithms.cluster import LEARNERS

async def run(folder, how):
    first, nesting = Weightless(folder / LEARNERS), Nesting(folder / "told")
    own = (folder / LEARNERS / "cluster" / "temporary-folder").read_text(encoding="utf-8")
    async with engines(Weightless(folder), nesting) as policy:
        print(own, *[left for left in nesting.left() if isinstance(left, Path)], flush=True)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    assert Path(own).exists(), "that of the cluster, which another launcher ends"
    await first.close()

if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))
"""


def test_engines_on_the_cluster_that_was_started_for_the_ranks_leave_nothing_either(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    script, run = tmp_path / "twice.py", tmp_path / "run"
    script.write_text(TWICE.format(here=HERE), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = os.pathsep.join([*HERE, os.environ.get("PYTHONPATH", "")])
    environment["RAY_worker_niceness"] = "0"
    for how, status in (("killed", -signal.SIGKILL), ("closed", 0)):
        (run / "told").mkdir(parents=True)
        words = [sys.executable, "-W", "error", str(script), str(run), how]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == status, done.stderr
        own, *temporary = map(Path, done.stdout.split())
        assert len(set(temporary)) == 2
        assert len({path.parent for path in temporary if path.is_relative_to(own)}) == 2, "each has its own place"
        assert own.exists() == (how == "killed")
        if how == "killed":
            clear(run)
            assert not own.exists()
        shutil.rmtree(run)


CLIENT = """
import sys
from ray._raylet import GcsClient
try:
    print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=60)), "node")
except Exception as error:
    print(type(error).__name__)
"""


def asked() -> dict[str, str]:
    """Returns what the cluster that this process has started answers to clients, and where its dashboard is."""
    import ray

    address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    found = {"dashboard": str(ray._private.worker._global_node.webui_url)}
    for who, own in {
        "no token": {"RAY_AUTH_MODE": "disabled"},
        "another token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * len(token)},
        "its token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
    }.items():
        words = [sys.executable, "-c", CLIENT, address]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment | own)
        found[who] = done.stdout.strip()
    return found


def below() -> list[int]:
    """Returns the processes that this one has started, directly or not."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def wide_open() -> list[str]:
    """Returns the addresses, other than the loopback's, on which this process and those below it listen."""
    inodes = set()
    for process in [os.getpid(), *below()]:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            with suppress(OSError):
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = [line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes]
    assert len(listening) > 4, "there is something to see"
    return [address for address in listening if not address.endswith("0100007F")]
