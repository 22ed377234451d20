"""Search behind a URL: our server and our client of Search-R1's protocol, and engines described by data."""

import gzip
import http.client
import json
import logging
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import gymnasium as gym
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_http import Answer, as_json, send, served

import arpo_envs
from arpo_envs import ConfigError, ToolFault, ToolLost, ToolResult
from arpo_envs.tasks.documents import FileCorpus
from arpo_envs.tasks.world import Corpus, load_world
from arpo_envs.testing import check_tool
from arpo_envs.tools.search import LIVE_ENGINES, LiveEngine, LiveSearchTool, RetrieveTool, SearchTool, index_of
from arpo_envs.tools.search.live import _filled
from arpo_envs.tools.search.serve import RetrieveServer

WORLD = load_world(2)
SECRET = "s3cret-k3y"


@contextmanager
def retrieval(corpus: Corpus = WORLD) -> Iterator[str]:
    with RetrieveServer(index_of(corpus, "tantivy"), port=0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with retrieval() as address:
        yield address


def asked(tool: Any, query: str, timeout: float = 10.0) -> Any:
    return tool.call("search", {"query": query}, timeout=timeout)


# --- the protocol ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["queries", "query"])
def test_a_search_finds_the_same_through_the_server(url: str, form: Any) -> None:
    """The same texts in the same order, for every name in the world and any text whatever."""
    here, there = SearchTool(WORLD, results=4, engine="tantivy"), RetrieveTool(url, results=4, form=form)
    for name in WORLD.names[:40]:
        assert asked(there, name) == asked(here, name)

    @settings(max_examples=40, deadline=None)
    @given(st.text(max_size=60))
    def same(query: str) -> None:
        assert asked(there, query) == asked(here, query)

    same()


def test_the_requests_of_public_clients_are_answered(url: str) -> None:
    """What Search-R1's `_batch_search`, Tree-GRPO's and SkyRL-gym's clients post, and how they read it."""
    batch = httpx.post(url, json={"queries": ["Paris", "Gold"], "topk": 2, "return_scores": True}).json()["result"]
    assert [len(found) for found in batch] == [2, 2]
    first = batch[1][0]["document"]["contents"].split("\n")
    assert first[0] == '"Gold"'
    assert first[1].startswith("Gold: chemical element")
    scores = [found["score"] for found in batch[0]]
    assert scores == sorted(scores, reverse=True)
    bare = httpx.post(url, json={"queries": ["Gold"], "topk": None}).json()["result"]
    assert bare[0][0] == batch[1][0]["document"]
    single = httpx.post(url, json={"query": "Gold", "topk": 2, "return_scores": True}).json()["result"]
    assert single == [batch[1][:2]]


def test_the_search_tool_of_skyrl_gym_shows_what_ours_shows(url: str) -> None:
    """Its class `SearchToolGroup`, which the search environment of SkyRL-gym calls, with the server in place of Search-R1's."""
    public = pytest.importorskip("skyrl_gym.tools.search").SearchToolGroup
    theirs = public(search_url=url, topk=2, log_requests=False)
    try:
        shown = json.loads(theirs.search("Gold"))["result"]
    finally:
        public._session_pool.pop(theirs.base_url).close()
    titled = [line for line in shown.splitlines() if not line.startswith("Doc ")]
    assert (shown.count("Doc "), "\n".join(titled)) == (2, asked(SearchTool(WORLD, results=2, engine="tantivy"), "Gold").text)


@pytest.mark.parametrize(
    ("body", "status", "hint"),
    [
        (b"{", 400, "JSON"),
        (b"[" * 100_000, 400, "JSON"),
        (b'{"topk": 3}', 422, "queries"),
        (b'{"queries": ["a"], "query": "a"}', 422, "queries"),
        (b'{"queries": "a"}', 422, "strings"),
        (b'{"queries": [1]}', 422, "strings"),
        (b'{"queries": ["a"], "topk": 51}', 422, "1..50"),
        (b'{"queries": ["a"], "topk": true}', 422, "1..50"),
        (json.dumps({"queries": ["a"] * 1025}).encode(), 413, "1024"),
        (b" " * (1 << 20) + b"{}", 413, "MB"),
        (b"[]", 422, "queries"),
    ],
)
def test_the_server_refuses_what_is_not_a_request(url: str, body: bytes, status: int, hint: str) -> None:
    answer = httpx.post(url, content=body)
    assert answer.status_code == status
    assert hint in answer.json()["detail"]
    assert httpx.post(url, json={"query": "Gold"}).status_code == 200


def test_the_server_refuses_other_names_routes_and_bodies_without_a_length(url: str) -> None:
    """A page in a browser that was led to this address by a name of its own gets nothing."""
    good = json.dumps({"query": "Gold"}).encode()
    assert httpx.post(url, content=good, headers={"Host": "evil.example:80"}).status_code == 421
    assert httpx.post(url, content=good, headers={"Host": "localhost:1"}).status_code == 200
    assert httpx.get(url, headers={"Host": "evil.example:80"}).status_code == 421
    assert httpx.get(url).json()["route"] == "POST /retrieve"
    assert httpx.post(url.replace("retrieve", "other"), content=good).status_code == 404
    assert httpx.post(url, content=iter([good])).status_code == 411
    connection = http.client.HTTPConnection(httpx.URL(url).host, httpx.URL(url).port, timeout=10)
    try:
        for _ in range(3):  # one connection serves many requests
            connection.request("POST", "/retrieve", good)
            assert connection.getresponse().read().startswith(b'{"result"')
        connection.request("POST", "/retrieve", headers={"Content-Length": "9" * 5000})
        assert connection.getresponse().status == 413
    finally:
        connection.close()


def test_a_port_that_is_taken_is_the_users_mistake(url: str) -> None:
    port = httpx.URL(url).port
    assert port is not None
    with pytest.raises(ConfigError, match="Choose another --port"):
        RetrieveServer(index_of(WORLD, "tantivy"), port=port)


# --- servers that fail -------------------------------------------------------------------------------------


def drip(_: Any, handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def endless(_: Any, handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * (1 << 16))


def bomb(_: Any, handler: Any) -> None:
    send(handler, 200, gzip.compress(b" " * (64 << 20)), Content_Encoding="gzip")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (as_json({}, 500), "status 500"),
        (as_json({}, 401), "Check its key"),
        (lambda _, handler: send(handler, 302, b"", Location="http://127.0.0.1:1/"), "status 302"),
        (lambda _, handler: send(handler, 200, b"<html>"), "did not answer with JSON"),
        (lambda _, handler: send(handler, 200, b"[" * 100_000), "did not answer with JSON"),
        (lambda _, handler: send(handler, 200, b"no gzip", Content_Encoding="gzip"), "cannot be reached|did not answer in 2 s"),
        (endless, "more than 8 MB"),
        (bomb, "more than 8 MB"),
        (as_json({"answer": 1}), "Search-R1"),
        (as_json([]), "Search-R1"),
        (as_json({"result": [[{"document": {"id": 1}}]]}), "contents"),
        (as_json({"result": [["text"]]}), "contents"),
    ],
)
def test_a_server_that_fails_is_a_fault_and_no_result(answer: Answer, hint: str) -> None:
    with served(answer) as server, pytest.raises(ToolFault, match=hint):
        asked(RetrieveTool(server.url), "Gold", timeout=2.0 if "2 s" in hint else 60.0)  # 64 MB may take a while to unpack


@pytest.mark.parametrize(
    ("contents", "shown"),
    [
        ("Paris is the capital of France.", "Paris is the capital of France."),
        ('"Paris"  is quoted', '"Paris" is quoted'),
        ('"Paris"\nis a city', "Paris: is a city"),
        ('"Paris"\nParisians live there', "Paris: Parisians live there"),
        ('""Weird Al" Yankovic"\nis a singer', '"Weird Al" Yankovic: is a singer'),
    ],
)
def test_contents_begin_with_a_title_only_before_a_line_break(contents: str, shown: str) -> None:
    with served(as_json({"result": [[{"document": {"contents": contents}}]]})) as server:
        assert shown in asked(RetrieveTool(server.url), "Gold").text
        assert f"{shown}:" not in asked(RetrieveTool(server.url), "Gold").text


def test_a_server_that_is_gone_is_a_loss() -> None:
    with served(as_json({})) as server:
        address = server.url
    with pytest.raises(ToolLost, match="cannot be reached"):
        asked(RetrieveTool(address), "Gold", timeout=0.4)


@contextmanager
def busy(*looks: bool) -> Iterator[tuple[str, Answer]]:
    """Gives a server's address, and how it answers searches: not before the test is over.

    Args:
        looks: whether it answers what else it is asked, the last one for ever.
    """
    over, asked_so_far = Event(), iter(looks)

    def wait(_: Any, handler: Any) -> None:
        over.wait(30.0)

    def look(request: Any, handler: Any) -> None:
        if next(asked_so_far, looks[-1]):
            return send(handler, 404, b"")
        return wait(request, handler)

    with served(wait, head=look) as server:
        try:
            yield server.url, wait
        finally:
            over.set()


@pytest.mark.parametrize("kind", ["dripping", "silent"])
def test_a_server_that_is_too_slow_is_a_result_like_any_time_out(kind: str) -> None:
    with busy(True) as (url, _), served(drip) as dripping:
        found = asked(RetrieveTool(url if kind == "silent" else dripping.url), "Gold", timeout=3.0)
    assert found == ToolResult("timed out after 3 s", "timeout")


@pytest.mark.parametrize("looks", [(False,), (True, False), (False, True)])
def test_a_server_that_gives_no_other_sign_of_life_meanwhile_is_a_loss(looks: tuple[bool, ...]) -> None:
    """Also one that is back just before the time is up: what it was asked may have been lost while it was away."""
    with busy(*looks) as (url, _), pytest.raises(ToolLost, match=r"did not answer in 0\.9 s, and was away"):
        asked(RetrieveTool(url), "Gold", timeout=0.9)


def test_a_server_that_was_away_before_it_was_slow_is_a_loss() -> None:
    with busy(True) as (_, wait), served(as_json({}, 503), wait) as server, pytest.raises(ToolLost, match="was away"):
        asked(RetrieveTool(server.url), "Gold", timeout=1.0)
    assert len(server.asked) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_gets_its_own_answers(url: str) -> None:
    tool = RetrieveTool(url, results=1)
    mine = asked(tool, "France")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # both ask at the same time, again and again
        told = [asked(tool, "Japan").text for _ in range(20)]
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    own = [asked(tool, "France") for _ in range(20)]
    with os.fdopen(reading) as file:
        theirs = json.loads(file.read() or "[]")
    os.waitpid(child, 0)
    assert own == [mine] * 20
    assert len(theirs) == 20
    assert {*theirs} == {asked(tool, "Japan").text}


def test_calls_do_not_wait_for_each_others_connections() -> None:
    together = Barrier(101)  # one more than a pool has unless told otherwise

    def wait(_: Any, handler: Any) -> None:
        together.wait(30.0)
        as_json({"result": [[]]})(_, handler)

    with served(wait) as server, ThreadPoolExecutor(together.parties) as pool:
        tool = RetrieveTool(server.url)
        found = list(pool.map(lambda query: asked(tool, query, timeout=30.0).error, ["Gold"] * together.parties))
    assert found == [None] * together.parties


def test_what_passes_is_tried_again() -> None:
    good = as_json({"result": [[{"document": {"contents": '"Gold"\na metal'}}]]})
    with served(as_json({}, 503), as_json({}, 429), good) as server:
        assert asked(RetrieveTool(server.url), "Gold").text == "Gold: a metal"
    assert len(server.asked) == 3


# --- engines described by data -----------------------------------------------------------------------------

FOUND = {
    "serper": {"organic": [{"title": "Gold", "link": "https://a.example/gold", "snippet": "a  metal"}]},
    "searxng": {"results": [{"title": "Gold", "url": "https://a.example/gold", "content": "a metal"}]},
    "bright-data": {"organic": [{"title": "Gold", "link": "https://a.example/gold", "description": "a metal"}]},
}


@contextmanager
def engine(name: str, answer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LiveEngine, Any]]:
    """One of the engines that come with the package, at an address of this machine."""
    known = LiveEngine.read(name)
    if known.key:
        monkeypatch.setenv(known.key, SECRET)
    with served(as_json(answer)) as server:
        yield LiveEngine(**{**vars(known), "url": server.url + httpx.URL(known.url).path}), server


@pytest.mark.parametrize("name", LIVE_ENGINES)
def test_every_engine_asks_as_it_is_described_and_reads_what_comes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine(name, FOUND[name], monkeypatch) as (described, server):
        tool = LiveSearchTool(described, results=2)
        assert asked(tool, "gold & {key}").text == "Gold: a metal (https://a.example/gold)"
        request = server.asked[0]
    sent = f"{request.path} {request.body.decode()}"
    assert "%26" in sent or "gold & {key}" in sent
    assert SECRET not in sent
    assert (SECRET in str(request.headers)) == bool(described.key)


def test_the_key_is_in_no_record(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with engine("serper", {}, monkeypatch) as (described, _):
        tool = LiveSearchTool(described)
        asked(tool, "gold")
        shown = [repr(tool), repr(described), tool.identity, pickle.dumps(tool).decode("latin-1"), caplog.text]
    with pytest.raises(ToolFault) as fault:
        asked(tool, "gold", timeout=0.3)
    assert all(SECRET not in text for text in [*shown, str(fault.value), caplog.text])
    assert fault.value.__cause__ is None
    with pytest.raises(ConfigError, match="logs"):
        LiveEngine("mine", "https://a.example/?key={key}", "results")
    monkeypatch.delenv(described.key)
    with pytest.raises(ConfigError, match=described.key):
        asked(LiveSearchTool(described), "gold")


def test_blocked_domains_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    links = [
        "https://bad.example/1",
        "https://www.BAD.example./2",
        "https://notbad.example/3",
        "http://[::",
        "",
        "https://x.example@bad.example/",
    ]
    answer = {"organic": [{"title": str(place), "link": link, "snippet": "t"} for place, link in enumerate(links)]}
    with engine("serper", answer, monkeypatch) as (described, _):
        text = asked(LiveSearchTool(described, results=9, blocked=["bad.example"]), "gold").text
    assert [line[0] for line in text.splitlines()] == ["2", "3", "4"]


@pytest.mark.parametrize("answer", [{"organic": "none"}, {"organic": {"a": 1}}, [1]])
def test_an_engine_that_answers_something_else_is_a_fault(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine("serper", answer, monkeypatch) as (described, _), pytest.raises(ToolFault, match="organic"):
        asked(LiveSearchTool(described), "gold")


def test_titles_pass_the_server_whatever_is_in_them(tmp_path: Path) -> None:
    titles = ['"Weird Al" Yankovic', 'The "Best"', '"Quoted"', "Two  spaces", "Two\nlines"]
    file = tmp_path / "documents.jsonl"
    file.write_text("\n".join(json.dumps({"title": title, "text": "a text"}) for title in titles), encoding="utf-8")
    with retrieval(FileCorpus(file)) as address:
        for title in titles:
            assert asked(RetrieveTool(address, results=1), title).text == f"{' '.join(title.split())}: a text"


def test_results_without_fields_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine("serper", {"organic": [1, {"title": None}, {"title": "Gold\n</result>"}]}, monkeypatch) as (described, _):
        assert asked(LiveSearchTool(described), "gold").text.splitlines() == [": ", ": ", "Gold </result>: "]


@pytest.mark.parametrize("answer", [{"searchParameters": {}}, {"organic": None}, {"organic": []}])
def test_nothing_found_is_no_fault(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine("serper", answer, monkeypatch) as (described, _):
        assert asked(LiveSearchTool(described), "gold").text.startswith("No results for 'gold'")


@given(st.text(), st.text())
def test_a_query_is_never_taken_for_a_placeholder(query: str, secret: str) -> None:
    values = {"{query}": query, "{key}": secret}
    assert _filled("<{query}|{key}>", values=values) == f"<{query}|{secret}>"


# --- as users meet them ------------------------------------------------------------------------------------


def test_an_environment_takes_a_url_and_forks(url: str) -> None:
    env = gym.make("ARPO/Search-v0", engine=url)
    env.reset(seed=7)
    twin = arpo_envs.clone(env)
    assert env.step("<search>Gold</search>") == twin.step("<search>Gold</search>")
    env.close()
    twin.close()


@pytest.mark.slow
def test_the_tools_pass_the_kit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_tool(RetrieveTool(url))
    with engine("searxng", FOUND["searxng"], monkeypatch) as (described, _):
        check_tool(LiveSearchTool(described))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tantiwy", "Did you mean 'tantivy'"),
        ("http://", "is not a URL"),
        ("https://u:p@a.example/", "password"),
        ("none.json", "Cannot read"),
    ],
)
def test_what_is_no_engine_is_the_users_mistake(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        gym.make("ARPO/Search-v0", engine=name)


def test_a_file_describes_an_engine(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    with served(as_json({"hits": {"list": [{"name": "Gold", "body": "a metal"}]}})) as server:
        file.write_text(
            json.dumps({"url": f"{server.url}/?q={{query_in_url}}", "results": "hits.list", "title": "name", "text": "body"})
        )
        env = gym.make("ARPO/Search-v0", engine=str(file))
        env.reset(seed=1)
        assert "Gold: a metal" in env.step("<search>gold ring</search>")[0]
        env.close()
    assert server.asked[0].path == "/?q=gold+ring"
    file.write_text('{"url": "http://a.example", "result": "x"}')
    with pytest.raises(ConfigError, match="Needed: url, results"):
        LiveSearchTool(file)
