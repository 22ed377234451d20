"""The browser beside the one that its protocol comes from (gpt-oss 0.0.9, downloaded once): equal text for equal pages."""

import json
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from made_once import kept_once

from arpo_envs.tasks import Task
from arpo_envs.tools.browser import BrowserTool, Document
from arpo_envs.tools.browser.html import to_page
from arpo_envs.tools.browser.page import Page, link_mark
from arpo_envs.tools.browser.sources import PageError
from arpo_envs.tools.browser.tool import BrowserSession

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
NEEDED = [
    *("aiohttp==3.14.5", "html2text==2025.4.15", "lxml==6.1.3", "structlog==26.1.0", "openai-harmony==0.0.8", "chz==0.4.0"),
    *("tenacity==9.2.1", "tiktoken==0.14.0", "pydantic==2.14.4"),
]
WORDS = (
    "Bordeaux",
    "is",
    "a",
    "city",
    "in",
    "the",
    "south-west",
    "of",
    "France;",
    "CAPITAL",
    "ville",
    "x" * 90,
    "\tof",
    "it's",
)


@pytest.fixture(scope="module")
def reference() -> Path:
    """Returns the folder that the package was unpacked into; it wants a newer Python than it needs."""
    return kept_once(ROOT / ".cache" / "gpt-oss-0.0.9", _download)


def _download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12", "-d", str(folder), "gpt-oss==0.0.9"]
    needed = ["install", "--only-binary=:all:", "--upgrade", "--target", str(folder), *NEEDED]
    for arguments in (wheel, needed):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"gpt-oss cannot be downloaded: {done.stderr[-300:]}")
    zipfile.ZipFile(next(folder.glob("gpt_oss-*.whl"))).extractall(folder)


def told(reference: Path, tmp_path: Path, **cases: Any) -> dict[str, Any]:
    asked, replies = tmp_path / "cases.json", tmp_path / "replies.json"
    asked.write_text(json.dumps({"browsed": [], "html": [], **cases}), encoding="utf-8")
    script = str(Path(__file__).with_name("reference.py"))
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys, runpy; sys.path.insert(0, {str(reference)!r}); "
            f"sys.argv = [{script!r}, {str(asked)!r}, {str(replies)!r}]; runpy.run_path({script!r}, run_name='__main__')",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(replies.read_text(encoding="utf-8"))
    return found


class Site:
    """Pages that are given as they are shown."""

    name, searches, trusted = "site", False, True

    def __init__(self, pages: dict[str, Page]) -> None:
        self.pages = pages

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        return Document(url, "") if url in self.pages else PageError(repr(url))


def browsing(pages: dict[str, Page], tokens: int, monkeypatch: pytest.MonkeyPatch) -> BrowserSession:
    monkeypatch.setattr("arpo_envs.tools.browser.conversion.page_of", lambda document, **_: pages[document.url])
    return BrowserTool(Site(pages), view_tokens=tokens).open(Task("t", "?", ("x",)), None)  # type: ignore[arg-type]


def made_up(rng: random.Random) -> dict[str, Page]:
    urls = [f"https://a.example/{name}" for name in ("one", "two", "caf%C3%A9", "empty")]
    pages = {}
    for url in urls[:-1]:
        lines = []
        for _ in range(rng.randrange(1, 60)):
            pieces: list[str] = list(rng.choices(WORDS, k=rng.randrange(0, 25)))
            if rng.random() < 0.4:
                number = rng.randrange(4)
                pieces.insert(
                    rng.randrange(len(pieces) + 1),
                    link_mark(number, " ".join(rng.choices(WORDS[:8], k=3)), rng.choice(["", "b"])),
                )
            lines.append(" ".join(pieces))
        pages[url] = Page(url, f"Page {url[-3:]}", "\n".join(lines), (*urls, "https://a.example/nowhere"))
    return pages | {urls[-1]: Page(urls[-1], "Empty", "", ())}


def drawn(rng: random.Random, pages: dict[str, Page]) -> list[tuple[str, dict[str, Any]]]:
    """Draws calls, right and wrong ones."""
    calls: list[tuple[str, dict[str, Any]]] = [("find", {"pattern": "x"}), ("open", {}), ("open", {"id": rng.choice([*pages])})]
    for _ in range(14):
        chosen: dict[str, Any] = {}
        if rng.random() < 0.4:
            chosen["cursor"] = rng.randrange(-1, 9)
        if rng.random() < 0.3:
            calls.append(("find", {"pattern": rng.choice(["CITY", "of", "bordeaux is", "nothing", "south-", "`†"]), **chosen}))
            continue
        kind = rng.random()
        if kind < 0.5:
            chosen["id"] = rng.randrange(-1, 7)
        elif kind < 0.7:
            chosen["id"] = rng.choice([*pages, "https://a.example/nowhere"])
        for name, bound in (("loc", 60), ("num_lines", 12)):
            if rng.random() < 0.4:
                chosen[name] = rng.randrange(-1, bound)
        calls.append(("open", chosen))
    return calls


def whole(page: Page) -> bool:
    """Whether no link's domain is broken over two lines, after which the reference counts the lines wrongly."""
    return not re.search(r"【[^】]*†[^†】]*†[^】]*\n[^】]*】|【\d*\n", "\n".join(page.lines))


def test_what_is_shown_is_what_the_reference_shows(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    worlds = [pages for pages in (made_up(rng) for _ in range(120)) if all(map(whole, pages.values()))][:60]
    assert len(worlds) == 60
    cases = [(pages, rng.choice([1, 12, 60, 1024]), drawn(rng, pages)) for pages in worlds]
    asked = [
        {
            "pages": {url: {"title": page.title, "text": page.text, "links": page.links} for url, page in pages.items()},
            "view_tokens": tokens,
            "calls": calls,
        }
        for pages, tokens, calls in cases
    ]
    theirs = told(reference, tmp_path, browsed=asked)["replies"]
    seen = set()
    for (pages, tokens, calls), expected in zip(cases, theirs, strict=True):
        session = browsing(pages, tokens, monkeypatch)
        ours = [session.call(f"browser.{name}", arguments, timeout=5.0) for name, arguments in calls]
        assert [result.text for result in ours] == expected
        seen |= {(result.text.split()[0], result.error) for result in ours}
    assert {("No", "not_found"), ("Invalid", "not_found"), ("Cursor", "not_found"), ("Cannot", "not_found")} <= seen
    assert {("Error", "not_found"), ("[0]", None), ("[9]", None)} <= seen


HTML = [
    "<title>T</title><p><a href='x.html'>one</a> <a href='/x.html'>two</a> <a href='x.html'>again</a></p>",
    "<p><a href='https://b.example/y?q=1#z'>far</a> and <a href='//c.example'>farther</a> <a href='https://a.example/'>near</a></p>",
    "<p><a href='#top'>top</a> <a href='mailto:x@y'>mail</a> <a href='javascript:x()'>run</a> <a>none</a></p>",
    "<ul><li><a href='page.html#part'>a  b\n c</a><li><a href='../up.html'>dagger †</a></ul><p>forged 【0†x】</p>",
]


def test_links_are_found_and_numbered_as_by_the_reference(reference: Path, tmp_path: Path) -> None:
    theirs = told(reference, tmp_path, html=[f"<html><body>{html}</body></html>" for html in HTML])["links"]
    for html, expected in zip(HTML, theirs, strict=True):
        page = to_page(html, "https://a.example/dir/page.html")
        marks = re.findall(r"【\d+†[^】]*】", page.text)
        assert {"links": list(page.links), "marks": marks, "title": page.title} == expected
