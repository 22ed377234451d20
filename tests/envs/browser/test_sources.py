"""Where pages come from: the built-in world, and folders, out of which nothing leads; and HTML that means harm."""

import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from browser_sites import HOME, PAGES, Site

from arpo_envs.errors import ConfigError
from arpo_envs.rewards.worker import shared_worker
from arpo_envs.tasks import Task
from arpo_envs.tasks.web import crawl
from arpo_envs.tasks.world import load_world
from arpo_envs.tools.browser import BrowserTool, Document, FolderSite, PageError, PageSource, SearchedBy, WorldSite, read
from arpo_envs.tools.browser.conversion import MAX_HTML, page_of
from arpo_envs.tools.browser.page import Page

TASK = Task("t", "?", ("x",))


def asked(source: PageSource, name: str, **arguments: Any) -> str:
    session = BrowserTool(source).open(TASK, None)  # type: ignore[arg-type]
    return session.call(f"browser.{name}", arguments, timeout=20.0).text


# --- the built-in world -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world_site() -> WorldSite:
    return WorldSite(load_world(3))


def test_facts_that_name_others_are_links(world_site: WorldSite) -> None:
    world = world_site.world
    for entity in (world.number("country-FR"), world.number("element-8"), 0):
        found = world_site.fetch(world_site.url(entity), timeout=1.0)
        assert isinstance(found, Document)
        page = page_of(found, trusted=True, timeout=9.0)
        assert isinstance(page, Page)
        for relation in world.relations(entity):
            text, target = world.fact(entity, relation), world.target(entity, relation)
            if target >= 0:
                number = page.links.index(world_site.url(target))
                assert f"* {relation}: 【{number}†{text}】" in page.text
            elif text:
                assert f"* {relation}: {text}" in page.text


def test_every_link_of_the_world_leads_to_a_page(world_site: WorldSite) -> None:
    for entity in range(len(world_site.world)):
        found = world_site.fetch(world_site.url(entity), timeout=1.0)
        assert isinstance(found, Document)
        page = page_of(found, trusted=True, timeout=9.0)
        assert isinstance(page, Page)
        assert page.title == world_site.world.names[entity].strip()
        assert all(isinstance(world_site.fetch(link, timeout=1.0), Document) for link in page.links)


def test_a_country_lists_its_cities_and_elements(world_site: WorldSite) -> None:
    assert "Hamburg" in (cities := asked(world_site, "open", id="https://world.example/country-DE/cities"))
    assert cities.index("Berlin") < cities.index("Hamburg")
    assert "Germanium" in asked(world_site, "open", id="https://world.example/country-DE/elements")
    assert "no such page" in asked(world_site, "open", id="https://world.example/country-DE/rivers")
    assert "no such page" in asked(world_site, "open", id="https://world.example/element-8/cities")


def test_the_world_is_searched_and_pickles(world_site: WorldSite) -> None:
    text = asked(world_site, "search", query="france", topn=1)
    assert text.startswith("[0] france\n")
    assert "【0†France†world.example】 France: country in Europe" in text
    assert pickle.loads(pickle.dumps(world_site)).name == world_site.name
    assert asked(world_site, "open", id="https://world.example/country-XX").endswith(
        "there is no such page on https://world.example/"
    )
    assert "no such page" in asked(world_site, "open", id="https://elsewhere.example/country-FR")


# --- folders ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(tmp_path / "cache"))
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (tmp_path / "secret.html").write_text("secret", encoding="utf-8")
    (inside / "index.html").write_text("<title>Start</title><a href='deep/a%20b.html#part'>A</a>", encoding="utf-8")
    (inside / "deep" / "a b.html").write_text("<title>A</title><p>The walrus. <a href='../index.html'>up</a>", encoding="utf-8")
    (inside / "deep" / "index.html").write_text("<title>Deep</title>", encoding="utf-8")
    (inside / "style.css").write_text("p {}", encoding="utf-8")
    (inside / "out.html").symlink_to(tmp_path / "secret.html")
    (inside / "away").symlink_to(tmp_path)
    (inside / "loop.html").symlink_to(inside / "loop.html")
    return inside


def test_a_folder_is_a_site(folder: Path) -> None:
    site = FolderSite(folder, show_progress=False)
    assert site.paths == ("deep/a b.html", "deep/index.html", "index.html")
    session = BrowserTool(site).open(TASK, None)  # type: ignore[arg-type]

    def told(name: str, **arguments: Any) -> str:
        return session.call(f"browser.{name}", arguments, timeout=20.0).text.split("\n")[0]

    assert told("open", id="https://docs.example/") == "[0] Start (https://docs.example/)"
    assert told("open", id=0) == "[1] A (https://docs.example/deep/a b.html#part)"
    assert told("open", id=0) == "[2] Start (https://docs.example/index.html)"
    assert told("open", id="https://docs.example/deep") == "[3] Deep (https://docs.example/deep/)"
    assert told("search", query="walrus") == "[4] walrus"
    assert told("open", id=0) == "[5] A (https://docs.example/deep/a b.html)"


def test_links_of_a_folders_page_are_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "index.html").write_text("<a href=guide>G</a>")
    (tmp_path / "guide" / "index.html").write_text("<a href=one.html>One</a>")
    (tmp_path / "guide" / "one.html").write_text("<p>The first page")
    site = FolderSite(tmp_path, show_progress=False)
    for address in ("guide", "guide/", "guide?x=1#part"):
        page = read(site, f"https://docs.example/{address}")
        assert isinstance(page, Page)
        assert page.links == ("https://docs.example/guide/one.html",), address
    assert len(crawl(site, site.base, show_progress=False).pages) == 3


@pytest.mark.parametrize("named", ["iso-8859-1", "windows-1251", "shift_jis", "utf-16"])
def test_a_file_is_read_in_the_charset_that_it_names(named: str, tmp_path: Path) -> None:
    text = {"iso-8859-1": "Café", "windows-1251": "Мир", "shift_jis": "日本", "utf-16": "Zürich"}[named]
    (tmp_path / "a.html").write_bytes(f"<meta charset='{named}'><title>{text}</title><p>{text}".encode(named))
    page = read(FolderSite(tmp_path, show_progress=False), "https://docs.example/a.html")
    assert isinstance(page, Page)
    assert (page.title, page.text) == (text, text)


@pytest.mark.parametrize(
    "address",
    [
        "https://docs.example/../secret.html",
        "https://docs.example/%2e%2e/secret.html",
        "https://docs.example/deep/..%2f../../secret.html",
        "https://docs.example//etc/passwd",
        "https://docs.example/out.html",
        "https://docs.example/away/secret.html",
        "https://docs.example/loop.html",
        "https://docs.example/missing.html",
        "https://docs.example/%00.html",
        "https://docs.example/" + "x" * 5000 + ".html",
        "https://docs.example/style.css",
        "https://docs.example.evil.example/index.html",
        "https://docs.example@evil.example/index.html",
        "http://docs.example/index.html",
        "file:///etc/passwd",
        "file://docs.example/index.html",
        "https://[",
        "https://docs.example/[.html",
        "https://docs.example/\ud800.html",
        "index.html",
        "",
    ],
)
def test_nothing_leads_out_of_a_folder(folder: Path, address: str) -> None:
    found = FolderSite(folder).fetch(address, timeout=1.0)
    assert isinstance(found, PageError)
    assert str(folder) not in found.text


def test_pages_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FolderSite(folder)
    assert [document.title for document in first.documents()] == ["A", "Deep", "Start"]
    monkeypatch.setattr(FolderSite, "fetch", None)
    again = pickle.loads(pickle.dumps(first))
    assert again.documents() == first.documents()
    assert (again, again.name) == (first, first.name)
    (folder / "new.html").write_text("<title>New</title>", encoding="utf-8")
    assert FolderSite(folder) != first


def test_all_pages_are_read_once_before_any_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments that begin at the same time have a site each, and one index; a search reads nothing."""
    readings: list[FolderSite] = []
    reading = FolderSite._reading

    def counted(site: FolderSite) -> Any:
        readings.append(site)
        return reading(site)

    monkeypatch.setattr(FolderSite, "_reading", counted)
    tools = [BrowserTool(FolderSite(folder, show_progress=False)) for _ in range(4)]
    with ThreadPoolExecutor(len(tools)) as pool:
        sessions = list(pool.map(lambda tool: tool.open(TASK, None), tools))  # type: ignore[arg-type]
    assert len(readings) == 1
    for name in ("fetch", "_read"):
        monkeypatch.setattr(FolderSite, name, None)
    for session in sessions:
        assert "docs.example】 The walrus." in session.call("browser.search", {"query": "walrus"}, timeout=1.0).text


def test_a_folder_that_is_not_searched_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderSite, "_reading", None)
    site = FolderSite(folder, show_progress=False)
    monkeypatch.setenv("SERPER_API_KEY", "none")
    for tool in (BrowserTool(site, search=False), BrowserTool(SearchedBy("serper", site), search=True)):
        session = tool.open(TASK, None)  # type: ignore[arg-type]
        assert "Start" in session.call("browser.open", {"id": site.base}, timeout=5.0).text


def test_what_is_no_site_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no folder"):
        FolderSite(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="There is no HTML in"):
        FolderSite(tmp_path / "empty")
    with pytest.raises(ConfigError, match="with a slash at its end"):
        FolderSite(folder, base="https://docs.example")


# --- HTML that means harm -----------------------------------------------------------------------------------

HARMLESS_AFTER_ALL = {
    "no UTF-8": (b"\xff\xfe\xc3<p>\x00\x80two", "two"),
    "entities of entities": ("<!DOCTYPE x [<!ENTITY a '&b;&b;'><!ENTITY b '&a;&a;'>]><p>&a;</p>", "&a;"),
    "many entities": ("&lt;" * 100_000, "<<<"),
    "deep": ("<b>" * 20_000 + "<ul><li>" * 2_000 + "end", "end"),
    "many links": ("<a href=x>y</a>" * 20_000, "【0†y】"),
    "unclosed": ("<p " + "a=" * 50_000, ""),
}


@pytest.mark.parametrize("name", HARMLESS_AFTER_ALL)
def test_odd_pages_are_read(name: str) -> None:
    html, text = HARMLESS_AFTER_ALL[name]
    page = page_of(Document(HOME, html), trusted=False, timeout=9.0)
    assert isinstance(page, Page), page
    assert text in page.text


def test_a_page_that_ends_its_process_or_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arpo_envs.tools.browser.conversion._SECONDS", 0.3)
    found = page_of(Document(HOME, "<div>" * 800_000), trusted=False, timeout=9.0)
    assert isinstance(found, PageError)
    assert "cannot be read" in found.text
    assert isinstance(page_of(Document(HOME, "<p>and the next one is read"), trusted=False, timeout=9.0), Page)


def test_a_page_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGES, HOME, "x" * (MAX_HTML + 1))
    for raw in (False, True):
        found = read(Site(), HOME, raw=raw)
        assert isinstance(found, PageError)
        assert "too large" in found.text


def test_a_page_that_takes_longer_than_the_call_may_is_an_error() -> None:
    html = "".join(f"<p>{number}<a href='{number}'>x</a>" for number in range(30_000))
    found = page_of(Document(HOME, html), trusted=False, timeout=0.01)
    assert found == PageError("the page cannot be read: timeout")
    assert isinstance(page_of(Document(HOME, html), trusted=False, timeout=60.0), Page)


def test_a_page_that_takes_long_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[Any] = []

    def remembered(*words: Any, **options: Any) -> Any:
        readers.append(shared_worker(*words, **options))
        return readers[-1]

    monkeypatch.setattr("arpo_envs.tools.browser.conversion.shared_worker", remembered)
    assert isinstance(page_of(Document(HOME, "<p>which starts a reader"), trusted=False, timeout=60.0), Page)
    idle = readers[0]._idle
    first = idle[-1]
    os.kill(first.program.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(page_of, Document(HOME, "<p>which takes long"), trusted=False, timeout=3600.0)
            while first in idle:
                time.sleep(0.001)
            assert isinstance(page_of(Document(HOME, "<p>another one"), trusted=False, timeout=60.0), Page)
            assert not slow.done()
            os.kill(first.program.pid, signal.SIGCONT)
            assert isinstance(slow.result(), Page)
    finally:
        os.kill(first.program.pid, signal.SIGCONT)


def test_strangers_pages_look_as_ours_do() -> None:
    assert asked(Site(trusted=False), "open", id=HOME) == asked(Site(), "open", id=HOME)
