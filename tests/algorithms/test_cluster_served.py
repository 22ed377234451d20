"""Engines in front of servers: the same trees as without engines, and weights that reach each server once."""

import asyncio
import logging
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cluster_toys import HASTY, InProcess, starts
from model_toys import tiny_model
from rollout_toys import Coin, Plan
from served_toys import Clients, Counting, renderer
from server_toys import LoopbackServer
from test_cli_train import SMALL, logged
from test_openai_policy import TOKENIZER, folder, serve  # noqa: F401  # fixtures

from algorithms.cli import main
from algorithms.cli.config import TrainConfig
from algorithms.cli.elsewhere import engines_for
from algorithms.cluster import COUNTS, Engines, Launcher, Listener, ServedPolicy, collect_elsewhere
from algorithms.cluster.local import LocalLauncher
from algorithms.cluster.worker import Worker
from algorithms.models.loading import load_policy
from algorithms.policies import Sampling
from algorithms.policies.delivered import Delivered
from algorithms.policies.following import Following
from algorithms.policies.openai import OpenAIPolicy
from algorithms.policies.served import ServerFault
from algorithms.rollout import Collected, Limits, try_collect
from algorithms.tracking.trees import read_trees

PLAN = Plan(Coin(roots=2, probability=0.5), rollouts=4)
TOLD: dict[str, Any] = {"seed": 3, "step": 5, "limits": Limits(action_tokens=10, answer_reserve=8)}
Serve = Callable[..., LoopbackServer]


@pytest.fixture(autouse=True)
def _quick(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr("algorithms.policies.replicas._FIRST_REST", 0.01)


@pytest.fixture
def pair(serve: Serve) -> list[LoopbackServer]:  # noqa: F811
    return [serve(context_length=500, batch_invariant=True) for _ in range(2)]


class Here(InProcess):
    """Keeps engines in this process, and closes their connections at the end, as the end of a process does."""

    def __init__(self, fates: Iterator[str]) -> None:
        super().__init__(fates)
        self.every: list[Worker] = []

    def create(self, make: Any) -> Worker:
        self.every.append(super().create(make))
        return self.every[-1]

    async def close(self) -> None:
        await super().close()
        await asyncio.gather(*(worker.close() for worker in self.every))


def leading(servers: list[LoopbackServer], folder: Path, weights: Path) -> OpenAIPolicy:  # noqa: F811
    urls = [server.url for server in servers]
    return OpenAIPolicy(urls, TOKENIZER, vocabulary_size=265, attempts=3, model_folder=folder, weights_folder=weights)


@asynccontextmanager
async def in_front(leader: OpenAIPolicy, launcher: Launcher) -> AsyncIterator[ServedPolicy]:
    """Gives the stand-in of two engines; ends them, and the leader, afterwards."""
    fleet = Engines(launcher, Clients(Following.of(leader, 2)), 2, HASTY, Listener())
    policy = ServedPolicy(fleet, leader, lambda: leader.delivered)
    try:
        yield policy
    finally:
        await policy.close()


async def elsewhere(policy: ServedPolicy, make_env: Any = Counting(), count: int = 6) -> Collected:
    return await collect_elsewhere(make_env, starts(count), policy, renderer(), PLAN, **TOLD)


def texts(found: Collected) -> list[str]:
    return [tree.to_json() for tree in found.trees]


@pytest.fixture
def alone(pair: list[LoopbackServer], folder: Path, tmp_path: Path) -> list[str]:  # noqa: F811
    """Returns the trees of one process after an update; the servers know nothing of it later."""

    async def run() -> list[str]:
        leader = leading(pair, folder, tmp_path / "alone")
        try:
            await leader.load(tiny_model(seed=5).state_dict(), 7)
            return texts(await try_collect(Counting(), starts(6), leader, renderer(), PLAN, **TOLD))
        finally:
            await leader.close()

    found = asyncio.run(run())
    assert len(set(found)) == 6
    for server in pair:
        server.loads.clear()
        server.requests.clear()
    return found


@pytest.mark.parametrize("fates", [[], ["", "before", "after"]])
def test_trees_are_those_of_one_process_and_each_server_gets_weights_once(
    fates: list[str],
    alone: list[str],
    pair: list[LoopbackServer],
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    async def run() -> Collected:
        async with in_front(leading(pair, folder, tmp_path), Here(iter(fates))) as policy:
            await policy.load(tiny_model(seed=5).state_dict(), 7)
            found = await elsewhere(policy)
            assert set(policy.engines()) == {server.url for server in pair}, "it is the servers that hold weights"
            await policy.load(tiny_model(seed=6).state_dict(), 8)
            assert (await policy.generate([1, 2, 3], Sampling(2), seed=1)).version == 8
            assert len(list(tmp_path.glob("update-*"))) == 1, "what a server that comes back will need"
            return found

    found = asyncio.run(run())
    assert texts(found) == alone
    assert found.counts["engines_lost"] == sum(map(bool, fates))
    assert (found.counts["prompts_retried"] > 0.0) == bool(fates)
    assert {node.policy_version for tree in found.trees for node in tree.nodes if any(node.sampled)} == {7}
    assert [len(server.loads) for server in pair] == [2, 2], "once for each update, however many engines there are"
    assert list(tmp_path.glob("update-*")) == []


def test_a_replica_that_missed_an_update_gets_it_from_an_engine_before_it_is_used(
    alone: list[str],
    pair: list[LoopbackServer],
    folder: Path,  # noqa: F811
    tmp_path: Path,
    serve: Serve,  # noqa: F811
) -> None:
    async def run() -> list[str]:
        async with in_front(leading(pair, folder, tmp_path), Here(iter([]))) as policy:
            pair[1].kill()
            await policy.load(tiny_model(seed=5).state_dict(), 7)
            back.append(serve(context_length=500, batch_invariant=True, port=pair[1].port))  # as it was first started
            return texts(await elsewhere(policy))

    back: list[LoopbackServer] = []
    assert asyncio.run(run()) == alone
    assert set(back[0].loads) == set(pair[0].loads)


def test_a_client_that_missed_an_update_brings_no_older_weights_back(pair: list[LoopbackServer], tmp_path: Path) -> None:
    async def run() -> None:
        leader = OpenAIPolicy([pair[0].url], TOKENIZER, vocabulary_size=265)
        follower = Following.of(leader, 1).make(TOKENIZER)
        await leader.close()
        follower._dispatcher._attempts = 2
        try:
            await follower.load(Delivered(tmp_path / "removed", (pair[0].url,)), 3)
            with pytest.raises(ServerFault, match=r"removed is gone: either newer weights"):
                await follower.generate([1, 2, 3], Sampling(2), seed=1)
        finally:
            await follower.close()

    asyncio.run(run())
    assert (pair[0].loads, pair[0].requests) == ([], [])


def test_a_client_that_ends_leaves_the_weights_that_others_may_need(pair: list[LoopbackServer], tmp_path: Path) -> None:
    async def run() -> None:
        leader = OpenAIPolicy([pair[0].url], TOKENIZER, vocabulary_size=265)
        follower = Following.of(leader, 1).make(TOKENIZER)
        await leader.close()
        await follower.load(Delivered(tmp_path), 3)
        await follower.close()

    asyncio.run(run())
    assert tmp_path.is_dir()


def test_several_clients_send_a_replica_no_more_at_once_than_one(pair: list[LoopbackServer]) -> None:
    leader = OpenAIPolicy([pair[0].url], TOKENIZER, vocabulary_size=265)
    assert [Following.of(leader, clients).concurrency for clients in (1, 2, 15, 500)] == [64, 32, 5, 1]
    asyncio.run(leader.close())


def test_engines_in_front_of_a_server_ask_for_no_gpu(
    tiny_policy: Path,
    serve: Serve,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("algorithms.cli.elsewhere.launcher_for", lambda *given, **options: asked.append(options))
    server = serve(root=str(tiny_policy))
    options = {"cluster": "ray", "device": "cuda", "output": tmp_path, "context_length": 128}
    for named, gpus in ((server.url, {}), (str(tiny_policy), {"gpus": 1.0})):
        policy = engines_for(TrainConfig.of({**options, "policy": named}), tiny_policy, "tags")
        assert asked.pop() == {"count": 2, **gpus}
        assert isinstance(policy, ServedPolicy) == (named == server.url)
        policy.fleet._launcher = SimpleNamespace(close=lambda: asyncio.sleep(0.0))  # type: ignore[assignment]
        asyncio.run(policy.close())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_killed_engine_was_growing_is_grown_by_another_one(
    alone: list[str],
    pair: list[LoopbackServer],
    folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "0").touch()

    async def run() -> Collected:
        async with in_front(leading(pair, folder, tmp_path / "weights"), LocalLauncher(tmp_path / "run")) as policy:
            await policy.load(tiny_model(seed=5).state_dict(), 7)
            return await elsewhere(policy, Counting(tokens))

    found = asyncio.run(run())
    assert texts(found) == alone
    assert found.counts["engines_lost"] == 1.0
    assert [len(server.loads) for server in pair] == [1, 1]
    assert multiprocessing.active_children() == []


@pytest.fixture
def trained(tiny_policy: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[Path, LoopbackServer]]]:
    servers: list[LoopbackServer] = []

    def train(name: str, *words: str) -> tuple[Path, LoopbackServer]:
        model = load_policy(tiny_policy)
        servers.append(LoopbackServer(*model, root=str(tiny_policy), context_length=512, batch_invariant=True))
        run = tmp_path / name
        told = ["--policy", servers[-1].url, "--output", str(run), "--steps", "2", "--threads", "1", *SMALL, *words]
        assert main(["train", *told]) == 0
        return run, servers[-1]

    yield train
    for server in servers:
        server.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_with_engines_in_front_of_a_server_is_the_run_without(
    trained: Callable[..., tuple[Path, LoopbackServer]], wide_terminal: None
) -> None:
    (one, server), (run, other) = trained("one"), trained("run", "--cluster", "local", "--engines", "2")
    for name in ("trees.jsonl.zst", "before.json", "after.json"):
        assert (run / name).read_bytes() == (one / name).read_bytes(), name
    assert len(list(read_trees(run / "trees.jsonl.zst"))) == 8
    assert [{name: value for name, value in line.items() if name not in COUNTS} for line in logged(run)] == logged(one)
    updates = [[name.rpartition("-")[0] for name in one.loads] for one in (server, other)]
    assert updates[0] == updates[1]
    assert all(torch.equal(tensor, other.weights()[name]) for name, tensor in server.weights().items())
    assert multiprocessing.active_children() == []
