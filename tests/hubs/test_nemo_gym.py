"""NeMo-Gym: the server on docs/hubs.md, over HTTP on loopback, in the form of NeMo-Gym, which does not run on this Python."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from episodes import IDS, SEED, recorded
from sections import section
from serving import freed, held, served

from arpo_envs.hubs.episode import maker
from arpo_envs.hubs.limits import Limits
from arpo_envs.hubs.sessions import Sessions

pytestmark = pytest.mark.hubs

MINI = "ARPO/SearchMini-v0"


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, env_id: str = MINI, limits: Limits = Limits(), **arguments: Any) -> Iterator[Any]:
    """Serves what is on the page; yields the address and the sessions."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "theirs"))
    import nemo_form

    monkeypatch.setitem(sys.modules, "resources_servers", nemo_form)
    monkeypatch.setitem(sys.modules, "resources_servers.gymnasium", nemo_form)
    (block,) = section("hubs", "NeMo-Gym")
    assert len([line for line in block.text.splitlines() if line]) <= 40
    with TemporaryDirectory() as folder:
        (file := Path(folder) / "app.py").write_text(block.text)
        spec = spec_from_file_location("app", file)
        spec.loader.exec_module(app := module_from_spec(spec))
    app.sessions = Sessions(maker(env_id, arguments), limits)
    with served(app.ArpoServer().setup_webserver()) as host:
        yield f"http://{host}", app.sessions
    app.sessions.close_all()


def row(**more: Any) -> dict[str, Any]:
    return {"responses_create_params": {"input": []}, **more}


def said(text: Any) -> dict[str, Any]:
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    content = [{"type": "output_text", "text": text, "annotations": []}]
    told = {"id": "r", "object": "response", "created_at": 0, "model": "m", "parallel_tool_calls": True, "tool_choice": "auto"}
    return row(response={**told, "tools": [], "output": [{**message, "content": content}]})


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_the_same_as_without_it(env_id, monkeypatch):
    import httpx

    expert = recorded(env_id)
    with serving(monkeypatch, env_id, **expert.arguments) as (url, sessions), httpx.Client(base_url=url) as agent:
        first = agent.post("/reset", json=row(seed=SEED)).json()
        steps = [agent.post("/step", json=said(action)).json() for action in expert.actions]
        assert (first["observation"], *(step["observation"] for step in steps)) == expert.observations
        assert tuple(step["reward"] for step in steps) == expert.rewards
        assert [step["terminated"] for step in steps] == [False] * (len(steps) - 1) + [True]
        assert (first["info"]["task"], steps[-1]["info"]["success"]) == (expert.task, 1.0)
        assert len(sessions) == 0
        assert agent.post("/reset", json=row(task=expert.task)).json()["observation"] == expert.observations[0]


def test_what_a_client_gets_wrong_is_refused_in_words_and_nothing_leaks(monkeypatch):
    import httpx

    with serving(monkeypatch, "ARPO/Python-v0", Limits(sessions=2)) as (url, sessions):
        with httpx.Client(base_url=url) as agent:  # starts what stays
            agent.post("/reset", json=row(seed=SEED))
            agent.post("/step", json=said("<answer>x</answer>"))
        before = held()
        with httpx.Client(base_url=url) as agent, httpx.Client(base_url=url) as other, httpx.Client(base_url=url) as third:
            assert "Begin a new one with reset" in agent.post("/step", json=said("x")).json()["detail"]
            agent.post("/reset", json=row(seed=SEED))
            other.post("/reset", json=row(seed=SEED))
            assert "no room for 1 more: 2 of 2" in third.post("/reset", json=row()).json()["detail"]
            agent.post("/step", json=said("<python>x = 1</python>"))
            assert "NameError" in other.post("/step", json=said("<python>x</python>")).json()["observation"]  # not its session
            for content in (b"garbage", b"[]", b"{}", b"\xff" * 10_000_000):
                refused = agent.post("/step", content=content, headers={"Content-Type": "application/json"})
                assert refused.status_code in (400, 422), content[:20]
            assert "of at most 1,048,576 characters" in agent.post("/step", json=said("x" * 10_000_000)).json()["detail"]
            assert agent.post("/reset", json=row(task="nowhere")).status_code == 409
            assert agent.post("/reset", json=row(seed="x")).status_code == 409
            agent.post("/reset", json=row(seed=SEED))
            assert agent.post("/step", json=said("<answer>x</answer>")).json()["terminated"]
            assert "its episode has ended" in agent.post("/step", json=said("<answer>x</answer>")).json()["detail"]
            assert third.post("/reset", json=row(seed=SEED)).status_code == 200  # whose place is free
            assert len(sessions) == 2
        sessions.close_all()
        assert freed(before), (before, held())


def test_what_is_idle_is_closed(monkeypatch):
    import httpx

    with serving(monkeypatch, limits=Limits(sessions=1, idle_seconds=0.1)) as (url, _), httpx.Client(base_url=url) as agent:
        agent.post("/reset", json=row(seed=SEED))
        time.sleep(0.3)
        with httpx.Client(base_url=url) as other:
            assert other.post("/reset", json=row(seed=SEED)).status_code == 200
        assert "idle for more than 0.1 s" in agent.post("/step", json=said("x")).json()["detail"]
