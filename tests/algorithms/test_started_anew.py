"""Servers that are started anew between two requests, and older weights on their way while newer ones arrive."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from model_toys import tiny_model
from server_toys import LoopbackServer
from test_openai_policy import CONTEXT, TOKENIZER, folder, policy_of, serve, within  # noqa: F401  # fixtures

from algorithms.policies import Sampling, dispatch, openai
from algorithms.policies.delivered import Delivered
from algorithms.policies.export import export_weights
from algorithms.policies.following import Following
from algorithms.policies.openai import OpenAIPolicy
from algorithms.policies.served import ServerFault

Serve = Callable[..., LoopbackServer]


@pytest.fixture(autouse=True)
def _quick(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr("algorithms.policies.replicas._FIRST_REST", 0.01)


class Late:
    """Pushes weights; those of one folder wait on the way."""

    def __init__(self) -> None:
        self.push = openai.push_weights
        self.folder: Path | None = None
        self.left, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, url: str, folder: Path, post: Any) -> None:  # noqa: F811
        if folder == self.folder:
            self.left.set()
            await self.go_on.wait()
        await self.push(url, folder, post)


def test_a_server_started_anew_unnoticed_gets_the_newest_weights_before_it_draws(
    serve: Serve,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(policy: OpenAIPolicy) -> None:
        await policy.load(tiny_model(seed=5).state_dict(), 1)
        before = await policy.generate(CONTEXT, Sampling(8), seed=1)
        first.kill()
        monkeypatch.setattr(dispatch, "_QUIET_SECONDS", -1.0)  # as a real server needs longer to start
        anew = serve(port=first.port)
        assert await policy.generate(CONTEXT, Sampling(8), seed=1) == before
        assert anew.loads == first.loads

    first = serve()
    within(work, first, model_folder=folder, weights_folder=tmp_path)


def test_a_server_is_asked_whether_it_is_the_same_only_after_a_silence(
    serve: Serve,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    require = openai.require_named

    async def counted(url: str, *rest: Any) -> None:
        asked.append(url)
        await require(url, *rest)

    async def work(policy: OpenAIPolicy) -> None:
        await policy.generate(CONTEXT, Sampling(1), seed=0)
        assert asked == [], "this client gave it nothing"
        await policy.load(tiny_model(seed=5).state_dict(), 1)
        monkeypatch.setattr(dispatch, "_QUIET_SECONDS", 60.0)
        for seed in range(3):
            await policy.generate(CONTEXT, Sampling(1), seed=seed)
        assert asked == []
        monkeypatch.setattr(dispatch, "_QUIET_SECONDS", -1.0)
        await policy.generate(CONTEXT, Sampling(1), seed=0)
        assert len(asked) == 1

    monkeypatch.setattr(openai, "require_named", counted)
    for names in (True, False):  # an older vLLM knows no name of its weights
        asked.clear()
        monkeypatch.setattr(dispatch, "_QUIET_SECONDS", 2.0)
        within(work, serve(names=names), model_folder=folder, weights_folder=tmp_path)


def test_older_weights_on_their_way_to_a_server_do_not_arrive_after_newer_ones(
    serve: Serve,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(policy: OpenAIPolicy) -> None:
        monkeypatch.setattr(openai, "push_weights", late := Late())
        await policy.load(tiny_model(seed=5).state_dict(), 1)
        late.folder = policy.delivered.folder
        policy._replicas.all[0].suspect = True
        looking = asyncio.ensure_future(policy._dispatcher.revive(policy._replicas.all[0]))
        await late.left.wait()
        loading = asyncio.ensure_future(policy.load(tiny_model(seed=6).state_dict(), 2))
        await asyncio.wait([loading], timeout=0.3)
        late.go_on.set()
        await asyncio.gather(looking, loading)
        newest = policy.delivered.folder
        assert newest is not None
        assert server.loads[-1] == newest.name
        assert policy.delivered.behind == ()

    server = serve()
    monkeypatch.setattr(openai, "shutil", SimpleNamespace(rmtree=lambda *given, **options: None))  # is only later at it
    within(work, server, model_folder=folder, weights_folder=tmp_path)


def test_a_client_that_brought_older_weights_after_newer_ones_brings_the_newer_ones_before_anybody_draws(
    serve: Serve,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        leader = policy_of(server)
        follower = Following.of(leader, 1).make(TOKENIZER)
        await leader.close()
        monkeypatch.setattr(openai, "push_weights", late := Late())
        late.folder = tmp_path / "old"
        try:
            await follower.load(Delivered(tmp_path / "old", (server.url,)), 1)
            looking = asyncio.ensure_future(follower._dispatcher.revive(follower._replicas.all[0]))
            await late.left.wait()
            await late.push(server.url, tmp_path / "new", follower._post)  # the leader's
            loading = asyncio.ensure_future(follower.load(Delivered(tmp_path / "new"), 2))
            await asyncio.wait([loading], timeout=0.3)
            late.go_on.set()
            await asyncio.gather(looking, loading)
            assert server.loads == ["new", "old", "new"]
            assert follower.delivered == Delivered(tmp_path / "new")
        finally:
            await follower.close()

    server = exported(serve, folder, tmp_path)
    asyncio.run(run())


def test_a_client_waits_for_no_server_that_the_leader_left_behind(
    serve: Serve,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        leader = policy_of(server)
        follower = Following.of(leader, 1).make(TOKENIZER)
        await leader.close()
        monkeypatch.setattr(openai, "push_weights", late := Late())
        late.folder = tmp_path / "old"
        try:
            await follower.load(Delivered(tmp_path / "old", (server.url,)), 1)
            looking = asyncio.ensure_future(follower._dispatcher.revive(follower._replicas.all[0]))
            await late.left.wait()
            loading = asyncio.ensure_future(follower.load(Delivered(tmp_path / "new", (server.url,)), 2))
            for _ in range(100):
                await asyncio.sleep(0)
            assert loading.done(), "it does not wait"
            assert follower.delivered == Delivered(tmp_path / "new", (server.url,))
            late.go_on.set()
            await looking
            assert server.loads == ["old", "new"]
            assert follower.delivered == Delivered(tmp_path / "new")
        finally:
            await follower.close()

    server = exported(serve, folder, tmp_path)
    asyncio.run(run())


def test_a_server_that_got_older_weights_while_another_was_waited_for_gets_the_newer_ones(
    serve: Serve,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual, left, go_on = openai.push_weights, asyncio.Semaphore(0), {}
    faults = [ServerFault("It has stumbled.")]

    async def push(url: str, weights: Path, post: Any) -> None:
        if weights.name == "old":
            left.release()
            await go_on[url].wait()
        elif faults and url == second.url:
            raise faults.pop()
        await usual(url, weights, post)

    async def run() -> None:
        go_on.update({url: asyncio.Event() for url in (first.url, second.url)})
        leader = policy_of(first, second)
        follower = Following.of(leader, 1).make(TOKENIZER)
        await leader.close()
        monkeypatch.setattr(openai, "push_weights", push)
        try:
            await follower.load(Delivered(tmp_path / "old", (first.url, second.url)), 1)
            looking = [asyncio.ensure_future(follower._dispatcher.revive(one)) for one in follower._replicas.all]
            for _ in looking:
                await left.acquire()
            for url in (first.url, second.url):
                await usual(url, tmp_path / "new", follower._post)  # the leader's
            loading = asyncio.ensure_future(follower.load(Delivered(tmp_path / "new"), 2))
            await asyncio.sleep(0)
            go_on[second.url].set()
            with pytest.raises(ServerFault, match="stumbled"):
                await looking[1]
            go_on[first.url].set()
            await asyncio.gather(looking[0], loading)
            assert [server.loads[-1] for server in (first, second)] == ["new", "new"]
        finally:
            await follower.close()

    first = exported(serve, folder, tmp_path)
    second = serve()
    asyncio.run(run())


def test_older_weights_that_are_gone_are_no_reason_not_to_give_the_newer_ones(
    serve: Serve,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = openai.push_weights

    async def work(policy: OpenAIPolicy) -> None:
        async def push(url: str, weights: Path, post: Any) -> None:
            if weights.name == "old":
                policy._exported = tmp_path / "new"
                raise ServerFault("There is no such folder.")
            await usual(url, weights, post)

        monkeypatch.setattr(openai, "push_weights", push)
        policy._exported = tmp_path / "old"
        await policy._give(policy._replicas.all[0])
        assert server.loads == ["new"]

    server = exported(serve, folder, tmp_path)
    within(work, server, model_folder=folder, weights_folder=tmp_path)


def exported(serve: Serve, folder: Path, home: Path) -> LoopbackServer:  # noqa: F811
    """Returns a server; weights for it are in two folders."""
    for name, seed in (("old", 5), ("new", 6)):
        export_weights(folder, tiny_model(seed=seed).state_dict(), home / name)
    return serve()
