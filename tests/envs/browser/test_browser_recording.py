"""What a browser was shown while a run was recorded, it is shown again in a replay, and no page is fetched."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_sites import HOME, PAGES, Site
from web_servers import says, serving, site

import arpo_envs
from arpo_envs import ConfigError, Task, ToolFault
from arpo_envs.envs.browser import BrowserEnv
from arpo_envs.testing import check_tool
from arpo_envs.tools.browser import (
    BrowserTool,
    Document,
    FolderSite,
    Hit,
    Page,
    PageError,
    PageSource,
    WorldSite,
    read,
    recorded,
)
from arpo_envs.tools.browser.conversion import MAX_HTML
from arpo_envs.tools.cache import Answers, Cache, Recorder, Replayer, Store, answer_tools, answered, cached

TASK = Task("t", "?", ("x",), {"start": HOME})
WALK: list[tuple[str, dict[str, Any]]] = [
    ("open", {}),
    ("open", {"id": 1}),
    ("open", {"id": 0}),  # it is gone
    ("find", {"pattern": "second"}),
    ("search", {"query": "The"}),
    ("open", {"id": 0}),
    ("open", {"id": f"view-source:{HOME}two"}),
    ("search", {"query": "broken"}),
    ("search", {"query": "nothing at all"}),
    ("back", {}),
    ("open", {"id": HOME}),
]
Moves = Sequence[tuple[str, dict[str, Any]]]


class Scripted(Site):
    """The site, after doing what a test says at each fetch."""

    def __init__(self, script: Callable[[str], Document | PageError | None], **options: Any) -> None:
        super().__init__(**options)
        self.script = script

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        return self.script(url) or super().fetch(url, timeout=timeout)


class Forbidden(Site):
    """Called like the site, but whoever asks it fails."""

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        raise AssertionError("a page was fetched")

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        raise AssertionError("a search was made")


# a recording belongs to a class of sources, too
Scripted.__qualname__ = Forbidden.__qualname__ = Site.__qualname__
Scripted.__module__ = Forbidden.__module__ = Site.__module__


def told(answers: Answers, source: PageSource, moves: Moves = WALK, seed: int = 0, timeout: float = 20.0) -> list[str]:
    """Returns what an episode is told, failures as text."""
    tool = answered(BrowserTool(source, search=True, back=True), answers)
    session = tool.open(TASK, np.random.default_rng(seed))
    session.reseed(seed)
    found = []
    for name, arguments in moves:
        try:
            result = session.call(f"browser.{name}", arguments, timeout=timeout)
            found.append(f"{result.text} {result.error}")
        except (ToolFault, TimeoutError) as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def opened(*urls: str) -> Moves:
    return [("open", {"id": url}) for url in urls]


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "tools.sqlite") as one:
        yield one


@pytest.mark.parametrize("trusted", [True, False])
def test_an_episode_is_replayed_without_its_source(trusted: bool, store: Store) -> None:
    site = Site(trusted=trusted)
    tool = BrowserTool(site, search=True, back=True)
    session = tool.open(TASK, np.random.default_rng(0))
    calls = [session.call(f"browser.{name}", arguments, timeout=20.0) for name, arguments in WALK]
    bare = [f"{result.text} {result.error}" for result in calls]
    assert "Error fetching URL `https://a.example/gone`: there is no such page not_found" in bare
    recorder, replayer = Recorder(store), Replayer(store)
    assert told(recorder, site) == bare
    assert told(replayer, Forbidden(trusted=trusted)) == bare
    assert told(recorder, Forbidden(trusted=trusted)) == bare, "and so does a resumed run"
    assert recorder.tally["failed"] == 2 * replayer.tally["failed"] == 4, "a page that is gone, a search that is broken"
    assert replayer.tally["missing"] == 0


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("kind", [Cache, Recorder])
def test_an_answered_browser_keeps_the_laws(kind: Any, trusted: bool, store: Store) -> None:
    tool = answered(BrowserTool(Site(trusted=trusted)), kind(store))
    assert check_tool(tool, calls=[("browser.open", {"id": HOME}), ("browser.search", {"query": "home"})]).ok


def test_one_answers_before_the_other(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path / "first.sqlite") as first:
        tool = cached(answered(BrowserTool(Site()), Recorder(store)), first)
        assert "Home" in tool.open(TASK, np.random.default_rng(0)).call("browser.open", {}, timeout=5.0).text
        assert len(first) == len(store) == 1
    assert told(Replayer(store), Forbidden(), opened(HOME))[0].startswith("[0] Home")


def test_a_page_that_was_not_recorded_is_a_fault_and_no_fetch(store: Store) -> None:
    told(Recorder(store), Site(), opened(HOME))
    replayer = Replayer(store)
    other = Forbidden()
    other.name = "another site"
    (missing,), (differs,) = told(replayer, Forbidden(), opened(f"{HOME}one")), told(replayer, other, opened(HOME))
    assert missing.startswith("NotRecorded: The recording has no answer to this call of browser.fetch.")
    assert differs.startswith("NotRecorded: The recording has no call of browser.fetch in this version and configuration.")
    assert replayer.tally["missing"] == 2


def test_equal_pages_are_fetched_once_at_the_same_time_and_later(store: Store) -> None:
    go_on, site = threading.Event(), Scripted(lambda url: None if go_on.wait(20) else PageError("late"))
    recorder = Recorder(store)
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(told, recorder, site, opened(HOME), seed) for seed in (1, 2)]
        while recorder.tally["answered"] < 2:
            time.sleep(0.01)
        go_on.set()
        assert len({one.result()[0] for one in found}) == 1
    told(recorder, site, opened(HOME), seed=3)
    assert site.fetched == [HOME]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (TimeoutError(), "TimeoutError: "),
        (ConnectionError("reset by peer"), "ToolFault: ConnectionError: reset by peer"),
        (PageError("the server is busy"), f"Error fetching URL `{HOME}`: the server is busy not_found"),
    ],
)
def test_a_failure_is_replayed_where_it_happened_and_nowhere_else(failure: Any, words: str, store: Store) -> None:
    failing = [True]

    def script(url: str) -> PageError | None:
        if failing[0] and isinstance(failure, Exception):
            raise failure
        return failure if failing[0] else None

    site = Scripted(script)
    assert told(Recorder(store), site, opened(HOME)) == [words]
    failing[0] = False
    assert told(Recorder(store), site, opened(HOME)) == [words], "the same place"
    (elsewhere,) = told(Recorder(store), site, opened(HOME), seed=1)
    assert elsewhere.startswith("[0] Home")
    for seed, expected in ((0, words), (1, elsewhere)):
        assert told(Replayer(store), Forbidden(), opened(HOME), seed) == [expected]


def test_a_source_that_does_not_return_is_recorded_as_a_time_out(store: Store) -> None:
    go_on = threading.Event()
    site = Scripted(lambda url: PageError("late") if go_on.wait(60) else None)
    assert told(Recorder(store), site, opened(HOME), timeout=0.2) == ["TimeoutError: "]
    assert told(Replayer(store), Forbidden(), opened(HOME)) == ["TimeoutError: "]
    go_on.set()


def test_how_a_page_was_read_is_recorded_and_no_memory_of_this_process_shows(store: Store, monkeypatch: Any) -> None:
    """Reading has a limit of time: here it is missed at first, and in the replay nothing is read at all."""
    busy = [True]

    def page_of(document: Document, *, trusted: bool, timeout: float, readable: bool) -> Page | PageError:
        return PageError("the page cannot be read: too slow") if busy[0] else Page(document.url, "Read", "late", ("x",))

    monkeypatch.setattr(recorded, "page_of", page_of)
    site, recorder = Site(trusted=False), Recorder(store)
    seen = [told(recorder, site, opened(HOME), seed=0)]
    busy[0] = False
    seen += [told(recorder, site, opened(HOME), seed=seed) for seed in (0, 1)]
    assert [["too slow" in text for text in texts] for texts in seen] == [[True], [True], [False]]
    monkeypatch.setattr(recorded, "page_of", None)
    assert [told(Replayer(store), Forbidden(trusted=False), opened(HOME), seed) for seed in (0, 1)] == seen[1:]


@pytest.mark.parametrize("html", ["<p>ö \ud800 é", "<p>ö é".encode("latin-1"), b"\xff\x00\xed\xb2\x80<p>x", ""])
def test_every_document_comes_back_as_it_was(html: Any, store: Store) -> None:
    site = Scripted(lambda url: Document(f"{url}?moved", html, "title †【"))
    moves = [*opened(HOME), ("open", {"id": HOME, "view_source": True})]
    seen = told(Recorder(store), site, moves)
    assert "title †〖 (" in seen[0]
    assert told(Replayer(store), Forbidden(), moves) == seen


def test_a_document_that_is_too_large_is_kept_only_so_far(store: Store, tmp_path: Path) -> None:
    site = Scripted(lambda url: Document(url, b"x" * (2 * MAX_HTML)))
    seen = told(Recorder(store), site, opened(HOME))
    assert "the page is too large" in seen[0]
    assert told(Replayer(store), Forbidden(), opened(HOME)) == seen
    store.close()
    assert store.file.stat().st_size < 1.1 * MAX_HTML


def test_a_credential_in_a_sources_name_is_refused_and_one_in_a_page_is_marked(store: Store, monkeypatch: Any) -> None:
    key = "sk-9f8e7d6c5b4a"
    monkeypatch.setenv("PAGES_API_KEY", key)
    site = Scripted(lambda url: Document(url, f"<p>Your key is {key}.".encode()))
    assert "Your key is [credential]." in told(Recorder(store), site, opened(HOME))[0]
    assert key.encode() not in b"".join(path.read_bytes() for path in store.file.parent.iterdir())
    site.name = "https://me:secret@a.example/"
    with pytest.raises(ConfigError, match="credential"):
        answered(BrowserTool(site), Recorder(store))


def test_a_fork_in_the_middle_is_at_a_place_of_its_own(store: Store) -> None:
    """The same page is busy for one path, and is there for its fork; a replay tells each of them the same again."""
    busy = [False]
    site = Scripted(lambda url: PageError("busy") if busy[0] and url != HOME else None)

    def episode(answers: Answers, source: PageSource) -> list[str]:
        session = answered(BrowserTool(source), answers).open(TASK, np.random.default_rng(0))
        shown = [session.call("browser.open", {}, timeout=20.0).text]
        twin, fork = session.clone(2)
        fork.reseed(5)
        for path, is_busy in ((session, True), (twin, False), (fork, False)):
            busy[0] = is_busy
            shown.append(path.call("browser.open", {"id": 0}, timeout=20.0).text)
        return shown

    seen = episode(Recorder(store), site)
    assert ["busy" in text for text in seen] == [False, True, True, False]
    assert episode(Replayer(store), Forbidden()) == seen


def test_a_folder_and_the_built_in_world_are_recorded_like_any_other_source(
    store: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    for url, html in PAGES.items():
        (folder / f"{url[len(HOME) :] or 'index'}.html").write_text(html, encoding="utf-8")
    site = FolderSite(folder, show_progress=False)
    moves = [*opened(f"{site.base}one.html"), ("search", {"query": "second"}), ("open", {"id": 0})]
    seen = told(Recorder(store), site, moves)
    assert "L0: The second." in seen[2]
    for name in ("fetch", "search"):
        monkeypatch.setattr(FolderSite, name, getattr(Forbidden, name))
    assert told(Replayer(store), site, moves) == seen
    (folder / "one.html").write_text("<p>another", encoding="utf-8")
    changed = FolderSite(folder, show_progress=False)
    assert "in this version and configuration" in told(Replayer(store), changed, moves)[0], "a named fault, and no other page"


def test_an_environment_is_replayed_with_its_snapshots(store: Store, monkeypatch: Any) -> None:
    def episode(answers: Answers) -> list[str]:
        env = BrowserEnv(split="test", cities_per_country=10, search=True)
        answer_tools(env, answers)
        env.reset(seed=1, options={"task": "city-2886242/country/capital"})
        seen = [env.step(env.dialect.call("browser.open", {}))[0]]
        with arpo_envs.snapshot(env) as kept:
            assert kept.portable
            twin = kept.spawn(seed=4)
        return [*seen, *(one.step(one.unwrapped.dialect.call("browser.open", {"id": 0}))[0] for one in (env, twin))]

    seen = episode(Recorder(store))
    assert "capital: 【0†Berlin】" in seen[1]
    assert seen[1] == seen[2]
    for name in ("fetch", "search"):
        monkeypatch.setattr(WorldSite, name, getattr(Forbidden, name))
    assert episode(Replayer(store)) == seen


@pytest.mark.parametrize("readable", [False, True])
def test_the_live_web_is_shown_again_after_its_server_has_gone(store: Store, readable: bool) -> None:
    pages = {"/": says(b"<h1>Home</h1><p>Go <a href='/two'>on</a>."), "/two": says(b"<p>two"), "/gone": says(b"", status=404)}

    def walk(answers: Answers, port: int) -> list[str]:
        tool = answered(BrowserTool(site(), readable=readable), answers)
        session = tool.open(TASK, np.random.default_rng(0))
        calls = [{"id": f"http://a.example:{port}/"}, {"id": 0}, {"id": f"http://a.example:{port}/gone"}]
        return [session.call("browser.open", call, timeout=20.0).text for call in calls]

    with serving(pages) as server:
        port = server.port
        first = walk(Recorder(store), port)
    assert "two" in first[1]
    assert walk(Replayer(store), port) == first


def test_readable_text_is_not_taken_for_the_whole_page(store: Store) -> None:
    kept = Recorder(store)
    whole, text = (
        answered(BrowserTool(Site(trusted=trusted), readable=readable, search=False), kept).open(TASK, np.random.default_rng(0))
        for trusted, readable in ((False, False), (True, True))
    )
    for session, readable in ((whole, False), (text, True)):
        shown = session.call("browser.open", {}, timeout=20.0).text
        page = read(Site(trusted=False), HOME, readable=readable)
        assert isinstance(page, Page)
        assert page.text.splitlines()[0] in shown
