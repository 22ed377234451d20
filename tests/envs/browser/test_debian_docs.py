"""Real documentation, as Debian ships it (downloaded once): 200 generated questions, each answered with the fewest clicks."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_once import kept_once

from arpo_envs.envs.browser import BrowserEnv
from arpo_envs.tasks.web import WebQuestions, crawl
from arpo_envs.tasks.web.cloze import GAP
from arpo_envs.tools.browser import FolderSite, Hit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
DOCS = {
    "postgresql-doc-15": ("usr/share/doc/postgresql-doc-15/html", 1100, "vacuum full"),
    "python3.11-doc": ("usr/share/doc/python3.11/html", 500, "json encoder"),
}
"""Where each package has its pages, how many at least can be reached, and what is searched for."""
PLAYED = 200


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


@pytest.mark.parametrize("package", ["postgresql-doc-15", pytest.param("python3.11-doc", marks=pytest.mark.thorough)])
def test_an_expert_finds_every_page(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(tmp_path))
    place, pages, query = DOCS[package]
    site = FolderSite(unpacked(package) / place, show_progress=False)
    web = crawl(site, f"{site.base}index.html", show_progress=False)
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
