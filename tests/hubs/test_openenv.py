"""OpenEnv: its server on loopback, and its own client."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import gymnasium as gym
import pytest
from episodes import IDS, SEED, recorded
from gymnasium.envs.registration import EnvSpec
from sections import run_section
from serving import freed, held, processes_below, served
from toys import Note, TownEnv

from arpo_envs.errors import ConfigError
from arpo_envs.forking import ForkLevel
from arpo_envs.hubs.limits import Limits
from arpo_envs.testing.probing import settled

pytestmark = pytest.mark.hubs

MINI = "ARPO/SearchMini-v0"


def client(host: str) -> Any:
    from arpo_envs.hubs.openenv_client import ArpoClient

    return ArpoClient(base_url=f"ws://{host}")


def app(env_id: str = MINI, **options: Any) -> Any:
    from arpo_envs.hubs.openenv import make_app

    return make_app(env_id, **options)


def say(text: str) -> Any:
    from arpo_envs.hubs.openenv_client import ArpoAction

    return ArpoAction(text=text)


def fork() -> Any:
    from arpo_envs.hubs.openenv_client import ArpoAction

    return ArpoAction(fork=True)


@pytest.fixture(scope="module")
def mini() -> Iterator[str]:
    with served(app()) as host:
        yield host


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_the_same_as_without_it(env_id):
    expert = recorded(env_id)

    async def test(host: str) -> None:
        async with client(host) as env:
            results = [await env.reset(seed=SEED)]
            results += [await env.step(say(action)) for action in expert.actions]
            state = await env.state()
        assert tuple(result.observation.text for result in results) == expert.observations
        assert tuple(result.reward for result in results[1:]) == expert.rewards
        assert [result.done for result in results] == [False] * len(expert.actions) + [True]
        assert results[-1].observation.metadata["success"] == 1
        assert (state.env_id, state.task, state.step_count) == (env_id, expert.task, len(expert.actions))
        assert state.fork_level == "exact"

    with served(app(env_id, **expert.arguments)) as host:
        asyncio.run(test(host))


@pytest.mark.parametrize("splits", [{}, {"splits": {"mine": {"split": "test"}}}])
def test_an_environment_whose_tools_cannot_be_called_is_refused(splits, monkeypatch):
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="The search engine serper needs a key"):
        app("ARPO/Search-v0", engine="serper", **splits)


def test_another_session_goes_on_from_a_fork_any_number_of_times():
    counts: list[int] = []

    async def test(host: str) -> None:
        async with client(host) as first:
            await first.reset(seed=SEED)
            await first.step(say("<python>x = 1</python>"))
            forked = await first.step(fork())
            handle = forked.observation.handle
            assert not forked.done
            await first.step(say("<python>x = 100</python>"))
        for _ in range(2):
            async with client(host) as second:
                same = await second.reset(handle=handle)
                assert same.observation.text == forked.observation.text
                assert (await second.step(say("<python>x += 1; x</python>"))).observation.text == "<result>2</result>"
                counts.append(processes_below())

    with served(app("ARPO/Python-v0")) as host:
        asyncio.run(test(host))
    without_both = counts[-1] - 2  # the session and the copy
    assert settled(processes_below, without_both) <= without_both


PLAYER = """
import asyncio, sys
from arpo_envs.hubs.openenv_client import ArpoAction, ArpoClient

async def play():
    async with ArpoClient(base_url=sys.argv[1]) as env:
        await env.reset(seed=1)
        await env.step(ArpoAction(text="<python>x = 1</python>"))
        print("in the middle", flush=True)
        await asyncio.sleep(600)

asyncio.run(play())
"""


@contextmanager
def killed_player(host: str) -> Iterator[None]:
    """Lets a process of its own begin an episode, and kills it in the middle at the end."""
    with subprocess.Popen([sys.executable, "-c", PLAYER, f"ws://{host}"], stdout=subprocess.PIPE, text=True) as player:
        assert player.stdout.readline() == "in the middle\n"
        yield
        player.kill()
    assert player.returncode == -signal.SIGKILL


def test_32_sessions_at_once_one_of_which_is_killed():
    expert, waiting = recorded(MINI), []

    async def play(host: str, go_on: asyncio.Event | None = None) -> tuple[str, ...]:
        async with client(host) as env:
            observations = [(await env.reset(seed=SEED)).observation.text]
            for number, action in enumerate(expert.actions):
                if number == 1 and go_on is not None:
                    waiting.append(host)
                    await go_on.wait()
                observations.append((await env.step(say(action))).observation.text)
            return tuple(observations)

    async def test(host: str) -> None:
        go_on = asyncio.Event()
        with killed_player(host):
            players = [asyncio.create_task(play(host, go_on)) for _ in range(31)]
            while len(waiting) < 31:
                await asyncio.sleep(0.01)
            async with client(host) as another:
                with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
                    await another.reset()
        go_on.set()
        assert await asyncio.gather(*players) == [expert.observations] * 31
        again = await asyncio.gather(*(play(host) for _ in range(32)))  # the killed one's place is free
        assert again == [expert.observations] * 32

    with served(app(limits=Limits(sessions=32))) as host:
        asyncio.run(test(host))


def test_a_client_that_is_killed_leaves_nothing_and_disturbs_nobody():
    """Its session's interpreter is a process, its connection a descriptor, and its place one of two."""

    async def test(host: str) -> None:
        async with client(host) as other:
            await other.reset(seed=SEED)
            await other.step(say("<python>y = 2</python>"))
            before = held()
            with killed_player(host):
                async with client(host) as third:
                    with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
                        await third.reset()
            assert await asyncio.to_thread(freed, before)
            async with client(host) as third:
                await third.reset(seed=SEED)
            assert (await other.step(say("<python>y</python>"))).observation.text == "<result>2</result>"

    with served(app("ARPO/Python-v0", limits=Limits(sessions=2))) as host:
        asyncio.run(test(host))


def test_what_a_client_gets_wrong_is_refused_in_words(mini):
    async def test() -> None:
        async with client(mini) as env:  # starts what stays
            await env.reset(seed=SEED)
        before = held()
        async with client(mini) as env, client(mini) as other:
            with pytest.raises(RuntimeError, match="No episode has begun"):
                await env.step(fork())
            await env.reset(seed=SEED)
            wrong = {
                "of at most 1,048,576 characters": say("x" * 10_000_000),
                "this one is NoneType": say(None),
                "An action is a string or a fork": fork().model_copy(update={"text": "x"}),
            }
            for part, action in wrong.items():
                with pytest.raises(RuntimeError, match=part):
                    await env.step(action)
            resets = {
                "No session has that handle": {"handle": "nobody's"},
                "A handle goes on where it was taken": {"handle": "x", "seed": 1},
                "Did you mean 'test'": {"split": "tests"},
                "has tasks 0 to 999": {"split": "test", "index": 1000},
                "the seed: leave seed out": {"index": 5, "seed": 6},
                "the seed: leave task out": {"split": "test", "index": 5, "task": "x"},
                "the seed: leave seed and task out": {"index": 5, "seed": 5, "task": "x"},
                "has no entity 'nowhere'": {"task": "nowhere"},
                "A seed is a whole number of at least 0, got '7'": {"seed": "7"},
                "A task is named by its id": {"task": {}},
                "the name of a split and a whole number": {"split": "test", "index": "x"},
            }
            for part, arguments in [*resets.items(), ("No session has that handle", {"handle": []})]:
                with pytest.raises(RuntimeError, match=part):
                    await env.reset(**arguments)
            for garbage in ("{", '{"type": "dance"}', '{"type": "step", "data": {"words": 1}}'):
                await env._ws.send(garbage)
                assert '"error"' in await env._ws.recv()
            await other.reset(seed=SEED + 1)
            assert "<result>" in (await env.step(say("<search>still there</search>"))).observation.text
            assert (await env.step(say("garbage"))).observation.metadata["status"] == "mistake"
            await env.step(say("<answer>x</answer>"))
            with pytest.raises(RuntimeError, match="The episode is over"):
                await env.step(say("<answer>x</answer>"))
        assert await asyncio.to_thread(freed, before)

    asyncio.run(test())


def test_limits_hold_for_sessions_and_copies():
    async def test(host: str) -> None:
        async with client(host) as env:
            await env.reset(seed=SEED)
            await env.step(fork())
            with pytest.raises(RuntimeError, match="no room for 1 more: 1 of 1"):
                await env.step(fork())
            async with client(host) as other:
                with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
                    await other.reset()

    with served(app(limits=Limits(sessions=1))) as host:
        asyncio.run(test(host))


class Closing(TownEnv):
    """Counts how many of its kind were closed."""

    closed: ClassVar[list[int]] = []

    def close(self) -> None:
        self.closed.append(id(self))


def test_a_copy_that_nobody_uses_is_closed_while_nobody_calls(monkeypatch):
    async def test(host: str) -> str:
        async with client(host) as env:
            await env.reset(seed=SEED)
            return (await env.step(fork())).observation.handle

    async def too_late(host: str, handle: str) -> None:
        async with client(host) as env:
            with pytest.raises(RuntimeError, match="No session has that handle"):
                await env.reset(handle=handle)

    monkeypatch.setitem(gym.registry, "Hubs/Closing-v0", EnvSpec("Hubs/Closing-v0", Closing))
    served_app = app("Hubs/Closing-v0", splits={"train": {}}, limits=Limits(idle_seconds=0.2))
    Closing.closed.clear()  # of the one that was made to see whether it can be
    with served(served_app) as host:
        handle = asyncio.run(test(host))
        assert settled(lambda: 2 - len(Closing.closed), 0) == 0  # the session and its copy
        asyncio.run(too_late(host, handle))


def test_a_client_that_was_idle_is_told_and_its_session_is_closed(monkeypatch):
    async def test(host: str) -> None:
        async with client(host) as env:
            await env.reset(seed=SEED)
            async with asyncio.timeout(60):  # the server looks every five seconds
                while not Closing.closed:
                    await asyncio.sleep(0.1)
            for again in (env.step(say("<note>x</note>")), env.reset(seed=SEED)):
                with pytest.raises(RuntimeError, match=r"was idle for more than 0\.2 s\. Connect again"):
                    await again
        async with client(host) as env:
            await env.reset(seed=SEED)

    monkeypatch.setitem(gym.registry, "Hubs/Closing-v0", EnvSpec("Hubs/Closing-v0", Closing))
    served_app = app("Hubs/Closing-v0", splits={"train": {}}, limits=Limits(idle_seconds=0.2))
    Closing.closed.clear()  # of the one that was made to see whether it can be
    with served(served_app) as host:
        asyncio.run(test(host))
        assert settled(lambda: 2 - len(Closing.closed), 0) == 0


def test_an_id_of_an_episode_is_a_short_text(mini):
    async def test() -> None:
        async with client(mini) as env:
            await env.reset(seed=SEED, episode_id="first")
            for wrong, said in ((5, "got 5"), ("x" * 10_000_000, "got 10,000,000 characters")):
                with pytest.raises(RuntimeError, match=f"An episode is named by its id, .*{said}"):
                    await env.reset(seed=SEED, episode_id=wrong)
            assert (await env.state()).episode_id == "first"

    asyncio.run(test())


class Secretive(Note):
    """A tool that cannot be copied."""

    fork_level = ForkLevel.NONE


def test_a_fork_that_cannot_be_made_is_refused_and_the_session_goes_on():
    async def test(host: str) -> None:
        async with client(host) as env:
            await env.reset(seed=SEED)
            assert (await env.state()).fork_level == "none"
            with pytest.raises(RuntimeError, match="does not declare that it can be copied"):
                await env.step(fork())
            assert "1 notes" in (await env.step(say("<note>x</note>"))).observation.text

    gym.register("Hubs/Secretive-v0", lambda: TownEnv(note=Secretive()))
    try:
        with served(app("Hubs/Secretive-v0", splits={"train": {}})) as host:
            asyncio.run(test(host))
    finally:
        del gym.registry["Hubs/Secretive-v0"]


def test_over_plain_http_there_is_nothing_to_fork(mini):
    import httpx

    refused = httpx.post(f"http://{mini}/step", json={"action": {"fork": True}})
    assert refused.status_code == 409
    assert "over the same WebSocket" in refused.text
    for part, given in {
        "Did you mean 'test'": {"split": "tests"},
        "No session": {"handle": "x"},
        "nowhere": {"task": "nowhere"},
    }.items():
        refused = httpx.post(f"http://{mini}/reset", json=given)
        assert refused.status_code == 409
        assert part in refused.json()["detail"]
    for way in ("reset", "step"):
        for content in (b"garbage", b"[]", b"\xff" * 10_000_000):
            refused = httpx.post(f"http://{mini}/{way}", content=content, headers={"Content-Type": "application/json"})
            assert 400 <= refused.status_code < 500, (way, content[:20])
    assert httpx.post(f"http://{mini}/reset", json={"seed": SEED}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:1", "null"])
def test_a_web_page_of_elsewhere_opens_no_websocket(mini, origin):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{mini}/ws", origin=origin):
        pass
    assert refused.value.response.status_code == 403
    assert f"Pages of '{origin}' may not call this server".encode() in refused.value.response.body
    with connect(f"ws://{mini}/ws", origin=f"http://{mini}"):  # its own page
        pass


def test_a_name_that_was_made_to_point_here_is_refused_unless_it_was_allowed(mini):
    import httpx
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    def answers(address: str, **headers: str) -> int:
        return httpx.get(f"http://{address}/health", headers=headers).status_code

    def opens(host: str) -> None:
        address, port = host.split(":")
        with connect(f"ws://envs.example:{port}/ws", address=(address, int(port)), origin="https://pages.example"):
            pass

    assert (answers(mini), answers(mini, host="envs.example"), answers(mini, origin="http://envs.example")) == (200, 403, 403)
    with pytest.raises(InvalidStatus, match="403"):
        opens(mini)
    with served(app(hosts=["envs.example", "pages.example"])) as host:
        assert (answers(host), answers(host, host="envs.example"), answers(host, host="evil.example")) == (200, 200, 403)
        opens(host)


def test_tasks_are_offered_by_split_and_index(mini):
    import httpx

    name = MINI.replace("/", "-")
    with httpx.Client(base_url=f"http://{mini}/{name}") as http:
        assert [split["name"] for split in http.get("/splits").json()] == ["train", "validation", "test"]
        assert http.post("/num_tasks", json={"split": "test"}).json() == {"num_tasks": 1000}
        task = http.post("/task", json={"split": "test", "index": 5}).json()["task"]
        span = http.post("/task_range", json={"split": "test", "start": 4, "stop": 6}).json()["tasks"]
        assert len(http.post("/tasks", json={"split": "train"}).json()["tasks"]) == 100
        wide = http.post("/task_range", json={"split": "test", "start": 0, "stop": 500})
        assert wide.status_code == 409
        assert "At most 100 tasks are listed at once, and this range has 500" in wide.text
        assert http.post("/task", json={"split": "test", "index": 1000}).status_code == 400
        assert http.post("/task", json={"split": "dev", "index": 0}).status_code == 400
    assert span[1] == task
    assert task["index"] == 5

    async def test() -> None:
        async with client(mini) as env:
            begun = await env.reset(split="test", index=5)
        assert (begun.observation.text, begun.observation.metadata["task"]) == (task["question"], task["id"])

    asyncio.run(test())


def test_the_page_runs(tmp_path, monkeypatch):
    run_section("hubs", "OpenEnv", tmp_path, monkeypatch)
