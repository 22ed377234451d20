"""The Model Context Protocol: the real SDK's server and client, in one process and over HTTP on loopback."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from episodes import IDS, SEED, recorded
from sections import run_section
from serving import freed, held, processes_below, served

from arpo_envs.errors import ConfigError
from arpo_envs.hubs.limits import Limits
from arpo_envs.hubs.mcp import make_server
from arpo_envs.testing.probing import settled

pytestmark = pytest.mark.hubs

MINI = "ARPO/SearchMini-v0"


class Player:
    """A client that plays one session."""

    def __init__(self, client: Any) -> None:
        self.client, self.session = client, ""

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        if name != "reset":
            arguments = {"session": self.session, **arguments}
        result = await self.client.call_tool(name, arguments)
        assert not result.is_error, result.content[0].text
        said = result.structured_content
        assert result.content[0].text == said["observation"]
        self.session = said.get("session", self.session)
        return said

    async def fork(self, **arguments: Any) -> list["Player"]:
        copies = []
        for handle in (await self.call("fork", **arguments))["sessions"]:
            copies.append(Player(self.client))
            copies[-1].session = handle
        return copies

    async def refused(self, name: str, **arguments: Any) -> str:
        result = await self.client.call_tool(name, arguments)
        assert result.is_error
        assert result.structured_content is None
        return result.content[0].text


@asynccontextmanager
async def playing(env_id: str = MINI, limits: Limits = Limits(), **arguments: Any) -> AsyncIterator[Player]:
    from mcp import Client

    async with Client(make_server(env_id, limits=limits, **arguments)) as client:
        yield Player(client)


def run(test: Any) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_the_same_as_without_it(env_id, dialect):
    expert = recorded(env_id, dialect)

    async def test() -> None:
        async with playing(env_id, **expert.arguments) as player:
            said = [await player.call("reset", seed=SEED)]
            said += [await player.call(name, **given) for name, given in expert.calls]
        assert tuple(step["observation"] for step in said) == expert.observations
        assert tuple(step["reward"] for step in said[1:]) == expert.rewards
        assert [step["terminated"] for step in said] == [False] * len(expert.calls) + [True]
        assert said[0]["info"]["task"] == expert.task

    run(test)


@pytest.mark.parametrize("env_id", IDS)
def test_a_client_forks_by_copying_a_handle(env_id):
    expert = recorded(env_id)

    async def test() -> None:
        async with playing(env_id, **expert.arguments) as player:
            await player.call("reset", seed=SEED)
            (name, given), *rest = expert.calls
            await player.call(name, **given)
            first, second = await player.fork(copies=2)
            assert len({player.session, first.session, second.session}) == 3
            await player.call("close")
            await second.call("answer", text="something else")
            said = [await first.call(name, **given) for name, given in rest]
        assert tuple(step["observation"] for step in said) == expert.observations[2:]
        assert said[-1]["reward"] == expert.rewards[-1]

    run(test)


def test_a_fork_of_an_interpreter_has_its_variables_and_nothing_is_left():
    counts: list[int] = []

    async def test() -> None:
        async with playing("ARPO/Python-v0") as player:
            await player.call("reset", seed=SEED)
            await player.call("python", code="x = 1")
            (copy,) = await player.fork()
            await player.call("python", code="x += 1")
            assert "1" in (await copy.call("python", code="x"))["observation"]
            assert "2" in (await player.call("python", code="x"))["observation"]
            counts.append(processes_below())

    run(test)
    without_both = counts[0] - 2
    assert settled(processes_below, without_both) <= without_both


def test_what_a_client_gets_wrong_is_refused_in_words():
    async def test() -> None:
        async with playing() as player, playing() as other:
            await player.call("reset", seed=SEED)
            await other.call("reset", seed=SEED)
            mine = player.session
            wrong = {
                "needs the argument 'session'": {"query": "x"},
                "'session' of search must be of type string": {"session": 5, "query": "x"},
                "No session has that handle": {"session": "x", "query": "x"},
                "needs the argument 'query'": {"session": mine},
                "'query' of search must be of type string": {"session": mine, "query": ["x"]},
                "no argument 'depth'": {"session": mine, "query": "x", "depth": 2},
                "of at most 1,048,576 characters": {"session": mine, "query": "x" * 10_000_000},
            }
            for part, given in wrong.items():
                assert part in await player.refused("search", **given)
            assert "No session has that handle" in await player.refused("search", session=other.session, query="x")
            assert "Did you mean 'search'?" in await player.refused("serch", session=mine, query="x")
            assert "has no entity 'nowhere'" in await player.refused("reset", task="nowhere")
            assert "copied at least once" in await player.refused("fork", session=mine, copies=0)
            assert "no room" in await player.refused("fork", session=mine, copies=10**9)
            await player.call("search", query="still there")
            await player.call("close")
            assert "No session has that handle" in await player.refused("close", session=mine)

    run(test)


def test_a_session_ends_with_its_episode_and_limits_hold():
    async def test() -> None:
        async with playing(limits=Limits(sessions=2)) as player:
            await player.call("reset", seed=SEED)
            (copy,) = await player.fork()
            assert "no room for 1 more: 2 of 2" in await player.refused("reset")
            await copy.call("answer", text="x")
            await player.call("reset")
        async with playing(limits=Limits(memory_mb=1)) as player:
            assert "The server is full" in await player.refused("reset")

    run(test)


def test_an_idle_session_is_closed():
    async def test() -> None:
        async with playing("ARPO/Python-v0", Limits(idle_seconds=0.2)) as player:
            await player.call("reset")
            await asyncio.sleep(1)
            assert "idle for more than 0.2 s" in await player.refused("python", session=player.session, code="1")

    run(test)


def test_what_fails_inside_stays_inside(monkeypatch, caplog):
    from mcp import MCPError

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the password is swordfish")

    async def test() -> None:
        async with playing() as player:
            await player.call("reset", seed=SEED)
            monkeypatch.setattr("arpo_envs.core.ToolEnv.step", fail)
            with pytest.raises(MCPError, match="server's log says how") as failed:
                await player.call("search", query="x")
            assert "swordfish" not in str(failed.value)

    run(test)
    assert "swordfish" in caplog.text


def test_a_handle_outlives_its_connection_over_http():
    from mcp import Client

    expert = recorded(MINI)

    async def test() -> None:
        async with Client(f"http://{host}/mcp") as client:
            player = Player(client)
            await player.call("reset", seed=SEED)
        async with Client(f"http://{host}/mcp") as client:
            player.client = client
            said = [await player.call(name, **given) for name, given in expert.calls]
        assert tuple(step["observation"] for step in said) == expert.observations[1:]

    with served(make_server(MINI).streamable_http_app()) as host:
        run(test)


def test_a_handle_is_all_it_takes_to_use_a_session_of_another_client():
    from mcp import Client

    async def test() -> None:
        async with Client(f"http://{host}/mcp") as one, Client(f"http://{host}/mcp") as other:
            player, stranger = Player(one), Player(other)
            await player.call("reset", seed=SEED)
            await stranger.call("reset", seed=SEED + 1)
            for guess in (stranger.session[:-1], stranger.session.swapcase(), ""):
                assert "No session has that handle" in await player.refused("search", session=guess, query="x")
            handed_on = Player(other)
            handed_on.session = player.session
            (name, given), *_ = recorded(MINI).calls
            assert (await handed_on.call(name, **given))["observation"] == recorded(MINI).observations[1]

    with served(make_server(MINI).streamable_http_app()) as host:
        run(test)


def test_garbage_over_http_is_refused_and_the_server_goes_on():
    import httpx
    from mcp import Client

    async def test() -> None:
        async with Client(f"http://{host}/mcp") as client:
            await Player(client).call("reset", seed=SEED)

    with served(make_server(MINI).streamable_http_app()) as host:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        run(test)  # starts what stays
        before = held()
        for content in (b"garbage", b"[]", b'{"jsonrpc": "2.0"}', b"\xff" * 10_000_000):
            refused = httpx.post(f"http://{host}/mcp", content=content, headers=headers)
            assert 400 <= refused.status_code < 500, content[:20]
        run(test)
        assert freed(before), (before, held())


def test_a_client_starts_it_as_a_command():
    from mcp import Client, StdioServerParameters

    async def test() -> None:
        command = StdioServerParameters(command=sys.executable, args=["-m", "arpo_envs.hubs.mcp", MINI])
        async with Client(command) as client:
            player = Player(client)
            assert (await player.call("reset", seed=SEED))["observation"] == recorded(MINI).observations[0]
            names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["reset", "fork", "close", "search", "answer"]

    run(test)


def test_an_environment_without_tools_is_refused():
    with pytest.raises(ConfigError, match="offers no tools"):
        make_server("CartPole-v1")


def test_an_environment_whose_tools_cannot_be_called_is_refused(monkeypatch):
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="The search engine serper needs a key"):
        make_server("ARPO/Search-v0", engine="serper")


def test_the_page_runs(tmp_path, monkeypatch):
    run_section("hubs", "Model Context Protocol", tmp_path, monkeypatch)
