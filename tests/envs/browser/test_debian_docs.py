"""Real documentation, as Debian ships it (downloaded once): every link is kept, and 200 questions have the fewest clicks."""

import functools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import numpy as np
import pytest
from made_once import kept_once

from arpo_envs.envs.browser import BrowserEnv
from arpo_envs.tasks.web import Web, WebQuestions, crawl
from arpo_envs.tasks.web.cloze import GAP
from arpo_envs.tools.browser import FolderSite, Hit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
DOCS = {
    "postgresql-doc-15": ("usr/share/doc/postgresql-doc-15/html", 1100, "vacuum full"),
    "python3.11-doc": ("usr/share/doc/python3.11/html", 500, "json encoder"),
}
"""Where each package has its pages, how many at least can be reached, and what is searched for."""
LINKS = {"postgresql-doc-15": (24_000, 22_500), "python3.11-doc": (104_000, 94_000)}
"""Fewest links that pages show, and of these to pages of the same site. Of 15.18 they are 24,368 and 22,939, of 3.11.2 105,742
and 95,254; a new version of a package changes them by a few."""
PLAYED = 200
every_package = pytest.mark.parametrize(
    "package", ["postgresql-doc-15", pytest.param("python3.11-doc", marks=pytest.mark.thorough)]
)


def unpacked(package: str) -> Path:
    """Returns the folder of a package's files, which are downloaded and not installed; images without documentation drop it."""
    return kept_once(ROOT / ".cache" / package, lambda folder: _download(package, folder))


def _download(package: str, folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("there is no apt-get")
    folder.mkdir(parents=True, exist_ok=True)
    download = ["apt-get", "download", "-q", package]
    done = subprocess.run(download, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False)
        done = subprocess.run(download, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{package} cannot be downloaded: {done.stderr[-300:]}")
    subprocess.run(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(folder)], check=True)


@functools.cache
def read_whole(package: str) -> tuple[FolderSite, Web]:
    site = FolderSite(unpacked(package) / DOCS[package][0], show_progress=False)
    return site, crawl(site, f"{site.base}index.html", show_progress=False)


class Anchors(HTMLParser):
    """Another reader of HTML: where each link of a page leads that has a text, but for places on the page itself."""

    def __init__(self, url: str, html: str) -> None:
        super().__init__()
        self.url, self.found = url, list[str]()
        self._href, self._text = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            href = dict(attrs).get("href")
            self._href, self._text = "#" if href is None else href, ""
        elif tag == "img":
            self._text += "image"

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        leads = urljoin(self.url, self._href)
        if tag == "a" and self._text.strip() and not self._href.startswith("#") and leads.startswith("http"):
            self.found.append(leads)
        self._text = "" if tag == "a" else self._text  # of a link within a link, the outer one ended where it began


@every_package
def test_every_link_is_shown_and_counted(package: str) -> None:
    folder = unpacked(package) / DOCS[package][0]
    site, web = read_whole(package)
    shown = inside = 0
    for url, page in web.pages.items():
        html = (folder / url.removeprefix(site.base)).read_text(encoding="utf-8", errors="replace")
        links = [page.links[int(number)] for number in re.findall(r"【(\d+)†", page.text)]
        assert links == Anchors(url, html).found, url
        assert set(links) == set(page.links), url
        assert [bool(to) for to in web.targets[url]] == [urldefrag(link).url in web.pages for link in page.links], url
        shown += len(links)
        inside += sum(urldefrag(link).url in web.pages for link in links)
    fewest, fewest_inside = LINKS[package]
    assert shown >= fewest
    assert inside >= fewest_inside


@every_package
def test_an_expert_finds_every_page(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(tmp_path))
    _, pages, query = DOCS[package]
    site, web = read_whole(package)
    assert len(web.pages) > pages
    tasks = {split: WebQuestions(web, split=split) for split in ("train", "validation", "test")}
    played = 0
    for source in tasks.values():
        env = BrowserEnv(tasks=source, site=site)
        for task in source.questions()[: PLAYED - played]:
            env.reset(options={"task": task.id})
            for move, text in source.demonstrate(task, np.random.default_rng(0)):
                action = env.dialect.answer(text) if move == "answer" else env.dialect.call(move, json.loads(text))
                _, reward, _, _, info = env.step(action)
            assert (reward, info["clicks"]) == (1.0, task.meta["optimal_clicks"]), task
            assert GAP in task.question
            assert not re.search(rf"(?<![A-Za-z]){re.escape(task.answers[0])}(?![A-Za-z])", task.question), task
            played += 1
    assert played == PLAYED
    (first, *_) = site.search(query, 5, timeout=60.0)
    assert isinstance(first, Hit)
    assert query.split()[0] in (first.title + first.summary).lower()
