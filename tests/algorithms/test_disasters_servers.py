"""Disasters of servers, at moments drawn by a seed: replicas that draw, and retrieval servers; killed, stopped, partitioned.

The moments are requests, counted by a proxy in front of the servers: it also is the partition.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium as gym
import pytest
from disaster_toys import Line, Proxy, moment, nothing_left
from model_toys import byte_tokenizer
from rollout_toys import Coin, CountTool, Plan, results
from test_trainer import Lenient

import arpo_envs
from algorithms.policies.openai import OpenAIPolicy
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer, TextRenderer
from algorithms.rollout import Collected, Failures, Limits, Start, batch, try_collect
from algorithms.tree import RolloutTree, Status
from arpo_envs.tasks.world import load_world

PROMPTS = 4
PLAN = Plan(Coin(roots=2, probability=0.5), rollouts=4)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Program:
    """A server in a process of its own, that can be killed, stopped, and started anew at the same port.

    Args:
        command: without the port, which comes last.
        port_in: takes the first line that it prints.
    """

    def __init__(self, command: Sequence[str], port_in: Callable[[str], int]) -> None:
        self._command, self._port_in, self.port = command, port_in, 0
        self._starting = False
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def restore(self) -> None:
        """Lets it go on or, if it is dead, starts another one, which is `ready` later."""
        if self._process.poll() is None:
            return self.signal(signal.SIGCONT)
        self.end()
        return self._start()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()

    def end(self) -> None:
        self._process.kill()
        with self._process:
            pass

    def _start(self) -> None:
        command = [*self._command, str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._starting = True

    def ready(self) -> "Program":
        """Waits until it answers."""
        if self._starting:
            assert self._process.stdout is not None
            self.port = self._port_in(self._process.stdout.readline())
            self._starting = False
        return self


@dataclass
class Site:
    """Servers that do the same, each behind a way through a proxy; what is done to them is undone after each test."""

    programs: list[Program]
    proxy: Proxy
    threads: list[threading.Thread] = field(default_factory=list)

    def prepare(self, what: str, at: int, *, both: bool, back: int, late: bool) -> None:
        """Has something happen at a request: SIGKILL or SIGSTOP to a server, or a line that becomes silent or is reset."""

        def strike(server: int) -> Collection[int]:
            hit = range(len(self.programs)) if both else [server]
            if what in ("SIGKILL", "SIGSTOP"):
                for one in hit:
                    self.programs[one].signal(signal.Signals[what])
            else:
                line: Line = "silent" if what == "silent" else "reset"
                self.proxy.cut(line, hit)
            return hit

        def restore() -> None:
            self.proxy.cut("open", range(len(self.programs)))
            self.threads.append(threading.Thread(target=self.restore))  # it takes seconds, and nobody should wait
            self.threads[-1].start()

        self.proxy.arm(at, strike, restore, back=back, late=late)

    def restore(self) -> None:
        for program in self.programs:
            program.restore()
        for program in self.programs:
            program.ready()

    @property
    def struck(self) -> bool:
        return bool(self.proxy.hit)


def _site(programs: list[Program]) -> Iterator[Site]:
    with Proxy(*(program.ready().port for program in programs)) as proxy:
        try:
            yield Site(programs, proxy)
        finally:
            for program in programs:
                program.end()


@pytest.fixture(scope="module")
def replicas() -> Iterator[Site]:
    command = [sys.executable, str(Path(__file__).with_name("replica_process.py"))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(arpo_envs.__file__).parents[1]))
        yield from _site([Program(command, int) for _ in range(2)])


@pytest.fixture(scope="module")
def retrieval() -> Iterator[Site]:
    command = [sys.executable, "-m", "algorithms.cli", "serve-search", "--engine", "sqlite", "--port"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("COLUMNS", "200")
        patched.setenv("PYTHONPATH", str(Path(arpo_envs.__file__).parents[1]))
        yield from _site([Program(command, lambda line: int(line.partition("127.0.0.1:")[2].partition("/")[0]))])


@pytest.fixture
def clean(request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Site]:
    """Gives the servers in order; afterwards nothing else may be left."""
    caplog.set_level(logging.ERROR)
    site: Site = request.getfixturevalue(request.param)
    site.restore()
    site.proxy.disarm()
    with nothing_left(tmp_path, lambda: [program.pid for program in site.programs]):
        yield site
        for thread in site.threads:
            thread.join()
        site.threads.clear()
        site.proxy.disarm()


def texts(trees: Sequence[RolloutTree]) -> list[str]:
    return [tree.to_json() for tree in trees]


# --- replicas -----------------------------------------------------------------------------------------------


def drawn(site: Site, failures: Failures | None = None) -> Collected:
    """Returns trees that the replicas draw."""
    tokenizer = byte_tokenizer()
    renderer = TextRenderer(tokenizer, with_instructions=False)
    limits = Limits(action_tokens=10, answer_reserve=8)

    async def run() -> Collected:
        policy = OpenAIPolicy(site.proxy.urls, tokenizer, vocabulary_size=265, context_length=500, timeout=3.0, attempts=30)
        starts = [Start(seed=i) for i in range(PROMPTS)]
        make_env = lambda: Lenient(CountTool())  # noqa: E731
        try:
            return await try_collect(make_env, starts, policy, renderer, PLAN, seed=3, limits=limits, failures=failures)
        finally:
            await policy.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def undisturbed_draws(replicas: Site) -> tuple[list[str], int]:
    """Returns the trees of replicas that nothing happens to, and how many requests it took."""
    found = drawn(replicas)
    assert found.error is None
    assert len(set(texts(found.trees))) == PROMPTS
    return texts(found.trees), replicas.proxy.requests


@pytest.mark.parametrize("clean", ["replicas"], indirect=True)
@pytest.mark.parametrize(
    ("what", "seed", "both", "back", "late"),
    [
        ("silent", 0, False, 2, False),
        ("silent", 1, True, 1, True),
        ("reset", 3, True, 3, False),
        ("SIGSTOP", 4, False, 1, False),
        ("SIGKILL", 7, True, 2, False),
    ],
)
def test_replicas_that_go_cost_nothing_but_time(
    undisturbed_draws: tuple[list[str], int], clean: Site, what: str, seed: int, both: bool, back: int, late: bool
) -> None:
    trees, requests = undisturbed_draws
    clean.prepare(what, *moment(seed, requests), both=both, back=back, late=late)
    failures = Failures(lambda what, error: None)
    found = drawn(clean, failures)
    assert clean.struck, "it did happen"
    assert texts(found.trees) == trees
    assert failures.counted() == []
    if both:
        assert clean.proxy.knocks >= back, "without one of them it could not go on"


# --- retrieval servers ----------------------------------------------------------------------------------------

NAMES = load_world().names


def searches(before: str, seed: int) -> str:
    """Looks names up, and answers after a few."""
    return f"<search>{NAMES[seed % len(NAMES)]}</search>" if results(before) < 3 else f"<answer>{seed % 7}</answer>"


def found_by(site: Site, failures: Failures | None = None, seconds: float = 6.0) -> Collected:
    """Returns trees whose tool is the retrieval server."""
    make_env = lambda: gym.make("ARPO/Search-v0", engine=f"{site.proxy.urls[0]}/retrieve", tool_timeout=seconds)  # noqa: E731
    starts = [Start(seed=i) for i in range(PROMPTS)]
    policy, renderer = ScriptedPolicy(searches), ScriptedRenderer()
    return asyncio.run(try_collect(make_env, starts, policy, renderer, PLAN, seed=3, failures=failures))


@pytest.fixture(scope="module")
def undisturbed_searches(retrieval: Site) -> tuple[list[str], int]:
    found = found_by(retrieval)
    assert found.error is None
    assert any(node.origin == "branch" for tree in found.trees for node in tree.nodes)
    return texts(found.trees), retrieval.proxy.requests


@pytest.mark.parametrize("clean", ["retrieval"], indirect=True)
@pytest.mark.parametrize(
    ("what", "seed", "back", "late"),
    [
        ("silent", 0, 1, False),
        ("silent", 1, 2, True),
        ("reset", 2, 3, True),
        ("SIGSTOP", 3, 2, False),
        ("SIGKILL", 4, 3, False),
    ],
)
def test_a_retrieval_server_that_goes_and_comes_back_costs_nothing_but_time(
    undisturbed_searches: tuple[list[str], int],
    clean: Site,
    what: str,
    seed: int,
    back: int,
    late: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "_FIRST_WAIT", 0.05)
    trees, requests = undisturbed_searches
    clean.prepare(what, *moment(seed, requests), both=False, back=back, late=late)
    failures = Failures(lambda what, error: None)
    found = found_by(clean, failures)
    assert clean.struck, "it did happen"
    assert clean.proxy.knocks >= back, "without it, it could not go on"
    assert texts(found.trees) == trees
    assert {what for what, _, _ in failures.counted()} <= {"tree grown again"}


@pytest.mark.parametrize("clean", ["retrieval"], indirect=True)
@pytest.mark.parametrize(("what", "seed"), [("silent", 5), ("SIGKILL", 6)])
def test_a_retrieval_server_that_stays_away_is_a_fault_of_leaves_each_counted_once(
    undisturbed_searches: tuple[list[str], int], clean: Site, what: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_FIRST_WAIT", 0.05)
    clean.prepare(what, *moment(seed, undisturbed_searches[1]), both=False, back=0, late=False)
    failures = Failures(lambda what, error: None)
    found = found_by(clean, failures, seconds=0.5)
    assert clean.struck, "it did happen"
    assert [tree.meta["seed"] for tree in found.trees] == list(range(PROMPTS))
    assert all(len(tree.leaves()) == PLAN.rollouts for tree in found.trees)
    ends = [tree.nodes[leaf] for tree in found.trees for leaf in tree.leaves()]
    lost = [node for node in ends if node.status is Status.TOOL_FAULT]
    assert lost
    assert all(str(node.fault).startswith("ToolLost: The search engine at http://127.0.0.1") for node in lost)
    assert {node.status for node in ends} <= {Status.ANSWERED, Status.TOOL_FAULT}
    counted = failures.counted()
    assert sum(times for what, _, times in counted if what == "tool_fault") == len(lost)
    assert sum(times for what, _, times in counted if what == "tree grown again") <= 2 * PROMPTS
