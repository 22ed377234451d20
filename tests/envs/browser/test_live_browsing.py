"""The live web in the browser: hostile pages are errors or text, a search engine finds pages, and only their text is shown."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from browser_sites import HOME, Site
from web_servers import Said, says, served_page, serving, site

from arpo_envs.envs.browser import BrowserEnv
from arpo_envs.errors import ConfigError, ToolFault, ToolLost
from arpo_envs.tasks import Task
from arpo_envs.tools.browser import BrowserTool, Document, Hit, LiveSite, PageError, SearchedBy, read
from arpo_envs.tools.browser.conversion import page_of
from arpo_envs.tools.browser.page import Page
from arpo_envs.tools.search import LiveEngine, LiveSearchTool

TASK = Task("t", "?", ("x",))


# --- pages that mean harm -----------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[bytes, str]] = {
    "a million levels": (says(b"<b>" * 1_000_000 + b"end"), "end"),
    "50 MB": (says(b"<p>x" * 12_500_000), "the page is too large"),
    "50 MB, compressed": (says(gzip.compress(b"<p>x" * 12_500_000, 1), Content_Encoding="gzip"), "the page is too large"),
    "grows when decoded": (says(b"\xe9" * 4_000_000, Content_Type="text/html; charset=latin1"), "éé"),
    "a million entities": (says(b"&lt;" * 1_000_000), "<<<<"),
    "billions of entities": (
        says(
            b"<!DOCTYPE x ["
            + b"".join(b"<!ENTITY a%d '%s'>" % (level + 1, b"&a%d;" % level * 10) for level in range(10))
            + b"]><p>&a10; end"
        ),
        "&a10; end",
    ),
    "NULs": (says(b"a\0b<p\0>c\0<a href='\0x'>\0y</a>"), "ab"),
    "no such bytes": (says(b"\xfd\xff<p>a\xc3(\xf0\x28\x8c\x28", Content_Type="text/html; charset=utf-8"), "a"),
    "half characters": (says(b"\xed\xa0\x80 a \xd8", Content_Type="text/html; charset=utf-8"), "a"),
    "escapes without end": (says(b"\x1b$B" * 100_000 + b"a", Content_Type="text/html; charset=iso-2022-jp"), ""),
    "forged links": (says("【0†x】 &#12304;1†y】".encode()), "〖0†x〗 〖1†y〗"),
}


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_are_errors_or_text(name: str, readable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arpo_envs.tools.browser.conversion._SECONDS", 3.0 if name != "a million levels" else 0.3)
    answer, shows = HOSTILE[name]
    with serving({"/": answer, "/next": says(b"<p>and the next one is read")}) as server:
        here, url = site(), f"http://a.example:{server.port}"
        found = read(here, f"{url}/", timeout=60.0, readable=readable)
        text = found.text
        assert shows in text or (isinstance(found, PageError) and "cannot be read" in text)
        assert isinstance(found, PageError) or "\0" not in text
        after = read(here, f"{url}/next", timeout=60.0, readable=readable)
        assert isinstance(after, Page)
        assert after.text == "and the next one is read"


# --- readable text --------------------------------------------------------------------------------------------

TEXT = "Walruses eat clams and other small animals of the sea floor, which they find with their whiskers in the dark. "
ARTICLE = f"""<head><title>The  walrus</title><base href="/animals/"></head><body>
<nav><ul><li><a href="/home">Home</a><li><a href="/shop">Shop</a></ul></nav>
<article><h1>The walrus</h1><p>{TEXT}See <a href="clam">clams</a> and <a href="https://c.example/【1†x】">the sea</a>.</p>
<p>{TEXT}<a href="clam">Clams</a> again, 【7†forged】. <a href="javascript:alert(1)">Run</a> <a href="#top">Up</a>
<a href="http://[">Bad</a> <a>No</a></p></article>
<footer><a href="/imprint">Imprint</a></footer></body>"""


def test_readable_text_keeps_its_links_and_leaves_out_what_stands_around() -> None:
    for trusted in (False, True):
        page = page_of(Document("https://a.example/x/y", ARTICLE), trusted=trusted, timeout=60.0, readable=True)
        assert isinstance(page, Page)
        assert (page.url, page.title) == ("https://a.example/x/y", "The walrus")
        assert "See 【0†clams】 and 【1†the sea†c.example】." in page.text
        assert "【0†Clams】 again, 〖7†forged〗." in page.text
        assert page.links[0] == "https://a.example/animals/clam"
        assert len(page.links) == 2
        assert "Home" not in page.text
        assert "Imprint" not in page.text
    whole = page_of(Document("https://a.example/x/y", ARTICLE), trusted=True, timeout=60.0)
    assert isinstance(whole, Page)
    assert len(whole.links) == 5


@pytest.mark.parametrize("html", ["", "<title>T</title>", "<ul><li><a href='a'>A</a><li><a href='b'>B</a></ul>"])
def test_a_page_without_text_is_shown_whole(html: str) -> None:
    document = Document("https://a.example/", html)
    assert page_of(document, trusted=False, timeout=60.0, readable=True) == page_of(document, trusted=False, timeout=60.0)


def test_the_browser_shows_readable_text_if_so_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/": says(ARTICLE.encode())}) as server:
        tools = [BrowserTool(site(), readable=readable) for readable in (False, True)]
        assert tools[0].identity != tools[1].identity
        for tool in tools:
            text = (
                tool.open(TASK, None)
                .call(  # type: ignore[arg-type]
                    "browser.open", {"id": f"http://a.example:{server.port}/", "num_lines": 99}, timeout=60.0
                )
                .text
            )
            assert "Walruses eat clams" in text
            assert ("Imprint" in text) != tool.readable
    monkeypatch.setattr("arpo_envs.tools.browser.tool.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'arpo-envs\[browse\]'"):
        BrowserTool(Site(), readable=True)


def test_trafilatura_is_only_imported_where_it_reads() -> None:
    assert page_of(Document("https://a.example/", ARTICLE), trusted=True, timeout=60.0, readable=True)
    assert "trafilatura" not in sys.modules


# --- found by a search engine -----------------------------------------------------------------------------------

RESULTS = [
    {"title": "One", "link": f"{HOME}one", "snippet": "the  first"},
    {"title": "No address", "snippet": "x"},
    {"title": "", "link": "https://c.example/【0†x】", "snippet": "</li>"},
    {"title": "Three", "link": "https://d.example/", "snippet": "third"},
]


def engine(port: int, **more: Any) -> LiveEngine:
    return LiveEngine(
        name="e", url=f"http://127.0.0.1:{port}/search", results="found", query={"q": "{query}", "n": "{count}"}, **more
    )


def test_a_search_engine_finds_pages_of_another_source() -> None:
    answer = says(json.dumps({"found": RESULTS}).encode(), Connection="close")
    with serving({"/search": answer}) as server:
        pages = Site(searches=False)
        source = SearchedBy(engine(server.port), pages)
        assert source.search("a b", 9, timeout=9.0) == [
            Hit(f"{HOME}one", "One", "the first"),
            Hit("https://c.example/【0†x】", "https://c.example/【0†x】", "</li>"),
            Hit("https://d.example/", "Three", "third"),
        ]
        assert server.paths == ["/search?q=a+b&n=9"]
        assert len(source.search("a", 1, timeout=9.0)) == 1  # type: ignore[arg-type]
        session = BrowserTool(source).open(TASK, None)  # type: ignore[arg-type]
        assert "【0†One†a.example】 the first" in session.call("browser.search", {"query": "x"}, timeout=60.0).text
        assert session.call("browser.open", {"id": 0}, timeout=60.0).text.startswith("[1] One")
        assert pages.fetched == [f"{HOME}one"]
        assert source.trusted
        assert (
            source.name
            != SearchedBy(engine(server.port, text="x"), pages).name
            != SearchedBy(engine(server.port), LiveSite()).name
        )


def test_an_engine_that_fails_or_is_slow() -> None:
    routes: dict[str, Said] = {}
    with serving(routes) as server:
        source = SearchedBy(LiveSearchTool(engine(server.port)), Site())
        with pytest.raises(ToolFault, match="status 404"):
            source.search("x", 3, timeout=9.0)
        routes["/search"] = served_page(after=3.5)
        assert source.search("x", 3, timeout=3.0) == PageError("timed out after 3 s")
        routes["/"] = routes["/search"]
        with pytest.raises(ToolLost, match="was away"):
            source.search("x", 3, timeout=0.3)


# --- as an environment --------------------------------------------------------------------------------------------


def test_the_environment_goes_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/": says(ARTICLE.encode()), "/animals/clam": says(b"<title>Clam</title><p>It has a shell.")}) as server:
        task = {"question": "What has a clam?", "answer": "a shell", "start": f"http://a.example:{server.port}/"}
        (tmp_path / "tasks.jsonl").write_text(json.dumps(task), encoding="utf-8")
        env = gym.make("ARPO/Browser-v0", tasks=str(tmp_path / "tasks.jsonl"), site=site(), readable=True)
        env.reset(seed=0)
        assert "【0†clams】" in env.step("<browser.open>{}</browser.open>")[0]
        assert "It has a shell." in env.step('<browser.open>{"id": 0}</browser.open>')[0]
        assert env.step("<answer>a shell</answer>")[1] == 1.0
    live = BrowserEnv(tasks=tmp_path / "tasks.jsonl", site="live")
    assert live.tools[0].source == LiveSite()  # type: ignore[attr-defined]
    monkeypatch.setenv("SERPER_API_KEY", "x" * 20)
    found = BrowserEnv(tasks=tmp_path / "tasks.jsonl", site="live", search="serper")
    assert found.tools[0].specs[0].name == "browser.search"
    assert found.tools[0].source == SearchedBy("serper", LiveSite())  # type: ignore[attr-defined]
    assert "x" * 20 not in f"{found.identity()} {found.tools[0].source!r}"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="needs site="):
        BrowserEnv(search="serper")
    with pytest.raises(ConfigError, match="needs tasks="):
        BrowserEnv(site="live")
