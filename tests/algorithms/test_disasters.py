"""Disasters, at moments drawn by a seed: no prompt is lost or doubled, the trees are the undisturbed run's, nothing is left.

Here: rollout workers, their sandboxes, and the driver. Servers are in `test_disasters_servers.py`, nodes in
`test_disasters_nodes.py`.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import disaster_toys
import pytest
from cell_toys import Cells, Played
from cluster_toys import HASTY, PLAN, Weightless, alone, elsewhere, engines, starts
from disaster_toys import Struck, descendants, events, moment, nothing_left
from rollout_toys import CountEnv
from test_cluster_runs import arguments, assert_same, one_process

from algorithms.cli import main
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Collected, Failures, all_failed, batch, try_collect
from algorithms.tree import RolloutTree
from arpo_envs.tools.python import SandboxUnavailable

__all__ = ["one_process"]

PROMPTS = 9
CALLS = 40
"""Tool calls of an undisturbed run, at least."""

PATIENCE = replace(HASTY, silence=15.0)
"""A machine that does much else may keep a healthy worker silent for seconds."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@cache
def undisturbed() -> Collected:
    """Returns what one process collects."""
    found = asyncio.run(alone(CountEnv, PROMPTS))
    calls = sum(bool(node.tool) for tree in found.trees for node in tree.nodes)
    assert calls >= CALLS, calls
    return found


def assert_equal(found: Sequence[RolloutTree], wanted: Sequence[RolloutTree]) -> None:
    """Fails if a prompt is lost or doubled, or a tree is another one."""
    assert [tree.meta["seed"] for tree in found] == [tree.meta["seed"] for tree in wanted]
    assert [tree.to_json() for tree in found] == [tree.to_json() for tree in wanted]


@pytest.fixture
def clean(tmp_path: Path) -> Iterator[Path]:
    """Gives a folder for the run; afterwards nothing may be left, there or elsewhere."""
    (tmp_path / "run").mkdir()
    (tmp_path / "temporary").mkdir()
    with nothing_left(tmp_path / "temporary"):
        yield tmp_path / "run"
        assert not (tmp_path / "run" / "cluster").exists()


# --- what these tests see -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["processes", "shared memory", "files", "temporary"])
def test_what_is_left_is_seen(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disaster_toys, "PATIENCE", 0.1)
    memory = Path(f"/dev/shm/arpo-{os.getpid()}")
    orphan = ["sh", "-c", "sleep 60 > /dev/null & echo $!"]
    leave: dict[str, Callable[[], Any]] = {
        "processes": lambda: int(subprocess.run(orphan, stdout=subprocess.PIPE, check=True).stdout),
        "shared memory": memory.touch,
        "files": lambda: os.open(os.devnull, os.O_RDONLY),
        "temporary": lambda: Path(tempfile.gettempdir(), "left").touch(),
    }
    left = None
    with pytest.raises(AssertionError, match=what), nothing_left(tmp_path):
        left = leave[what]()
    memory.unlink(missing_ok=True)
    if what == "processes":
        os.kill(left, signal.SIGKILL)
        os.waitpid(left, 0)
    if what == "files":
        os.close(left)


# --- workers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "victims", "seed"),
    [
        (signal.SIGKILL, 1, 0),
        (signal.SIGKILL, 2, 2),
        (signal.SIGSTOP, 1, 3),
        (signal.SIGSTOP, 2, 4),
    ],
)
def test_workers_that_are_killed_or_stopped_cost_nothing_but_time(
    what: signal.Signals, victims: int, seed: int, clean: Path
) -> None:
    failures = Failures(lambda what, error: None)

    async def run() -> Collected:
        async with engines(Weightless(clean), patience=PATIENCE) as policy:
            pids = [engine.worker.process.pid for engine in policy.fleet.all]
            chosen = random.Random(seed).sample(pids, victims)
            struck = Struck(clean, *moment(seed, CALLS // 2), what, tuple(chosen))
            found = await elsewhere(policy, struck, PROMPTS, failures=failures)
            assert policy.fleet.lost == victims, policy.lines
            return found

    found = asyncio.run(run())
    assert (clean / "struck").exists(), "it did happen"
    assert_equal(found.trees, undisturbed().trees)
    assert found.counts["engines_lost"] == victims
    assert found.counts["prompts_retried"] >= 1
    assert failures.counted() == []
    assert events(clean / "journal") > CALLS, "what was lost was done again"


# --- sandboxes ----------------------------------------------------------------------------------------------

EPISODES = 4


@cache
def undisturbed_cells() -> Collected:
    """Returns what one process collects with sandboxes."""
    policy, renderer = ScriptedPolicy(Played.script, version=7), ScriptedRenderer()
    cells = Cells()
    found = asyncio.run(try_collect(cells, starts(EPISODES), policy, renderer, PLAN, seed=3, step=5))
    if isinstance(found.error, SandboxUnavailable):
        pytest.skip(str(found.error))
    assert found.error is None
    return found


def later_cells(tree: RolloutTree) -> int:
    """Returns how many cells of a tree come after another one of their episode."""
    tools = [[bool(tree.nodes[segment.node].tool) for segment in tree.path(node)] for node in range(len(tree.nodes))]
    return sum(along[-1] and any(along[:-1]) for along in tools)


@pytest.mark.parametrize(
    ("what", "seed", "lost"),
    [("server", 0, 0), ("child", 1, 0), ("worker", 3, 1), ("server and other worker", 4, 1)],
)
def test_sandboxes_that_are_lost_in_the_middle_of_episodes_cost_nothing_but_time(
    what: str, seed: int, lost: int, clean: Path
) -> None:
    wanted, failures = undisturbed_cells(), Failures(lambda what, error: None)
    calls = sum(map(later_cells, wanted.trees))

    async def run() -> Collected:
        async with engines(Weightless(clean), make=Played(), patience=PATIENCE) as policy:
            return await elsewhere(policy, Cells(clean, *moment(seed, calls), what), EPISODES, failures=failures)

    found = asyncio.run(run())
    assert (clean / "struck").exists(), "it did happen"
    assert_equal(found.trees, wanted.trees)
    assert found.counts["engines_lost"] == lost
    again = failures.counted()
    assert {what for what, _, _ in again} <= {"tree grown again"}
    assert bool(again) or what == "worker"


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("killer", [0, 2])
def test_an_episode_that_kills_the_sandboxes_of_all_every_time_fails_alone(
    killer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, failures = undisturbed_cells(), Failures(lambda what, error: None)
    monkeypatch.setattr(batch, "_FIRST_WAIT", 0.05)
    policy, renderer, cells = ScriptedPolicy(Played.script, version=7), ScriptedRenderer(), Cells(killer=killer)
    found = asyncio.run(try_collect(cells, starts(EPISODES), policy, renderer, PLAN, seed=3, step=5, failures=failures))
    trees, others = [*found.trees], [*wanted.trees]
    assert all_failed([trees.pop(killer)])
    assert_equal(trees, [other for other in others if other is not others[killer]])
    assert found.counts["trees_grown_again"] > 2.0, "it did happen"


# --- the driver ---------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("wide_terminal")
@pytest.mark.parametrize(
    ("place", "events", "seed", "words"),
    [
        ("prompts", 15, 0, []),
        ("prompts", 15, 1, ["both"]),
        ("weights", 3, 2, []),
        ("update", 2, 3, []),
        ("disk", 12, 4, []),
    ],
)
def test_a_driver_that_is_killed_goes_on_as_if_undisturbed(
    place: str, events: int, seed: int, words: list[str], tiny_policy: Path, one_process: Path, clean: Path
) -> None:
    before = descendants(os.getpid())
    train = arguments(tiny_policy, clean, "--cluster", "local", "--engines", "1", "--checkpoint-every", "1")
    number = random.Random(seed).randint(1, events)
    driver = [sys.executable, str(Path(__file__).with_name("disaster_driver.py")), place, str(number), *words]
    killed = subprocess.run([*driver, "--", *train], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, f"it did not happen: {killed.stdout[-500:]} {killed.stderr[-2000:]}"
    deadline = time.monotonic() + 60.0
    while (left := descendants(os.getpid()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "workers end by themselves"
    assert main(["train", "--resume", str(clean)]) == 0
    assert_same(clean, one_process)
    assert {path.name for path in clean.iterdir()} == {path.name for path in one_process.iterdir()}
    assert not list(clean.glob("checkpoints/.*"))
