"""`arpo bench page`: what is measured, and that a page which reads more than it shows is found; no time is asserted."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from algorithms.bench import page
from algorithms.cli import main
from algorithms.cli.watched import Watched
from algorithms.tracking.trees import read_trees
from arpo_envs import ArpoError, ConfigError

in_chromium = pytest.mark.slow


@pytest.fixture
def browser() -> None:
    pytest.importorskip("playwright.sync_api")
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is not installed")


@in_chromium
@pytest.mark.usefixtures("browser", "wide_terminal")
def test_the_result_is_flat_and_whole(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "page.json"
    words = ["--trees", "2", "40", "--repeats", "1", "--opened", "3"]
    assert main(["bench", "page", *words, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    times = {
        f"{kind}_{name}_{ms}_{count}"
        for kind in page.KINDS
        for name in page.MEASURES
        for ms in ("ms", "worst_ms")
        for count in (2, 40)
    }
    sizes = {f"report_{what}_{count}" for what in ("trees", "mb") for count in (2, 40)}
    assert record.keys() == {"trees", "repeats", "opened", "chromium", *times, *sizes, *page.BOUNDS}
    assert all(record[name] > 0.0 for name in times)
    for kind in page.KINDS:
        assert record[f"{kind}_open_ms_40"] <= record[f"{kind}_open_worst_ms_40"]
    assert (record["report_trees_2"], record["report_trees_40"]) == (2, 40)
    assert "40 of 40 trees" in capsys.readouterr().out


@in_chromium
@pytest.mark.usefixtures("browser")
def test_a_server_that_reads_all_trees_to_show_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Watched.tree

    def every(self: Watched, number: int) -> dict[str, Any]:
        return [one(self, other) for other in range(self.index("")["unread"] + len(self.index("")["prompts"]))][number]

    monkeypatch.setattr(Watched, "tree", every)
    record = page.measure(page.PageBench(trees=(2, 100), repeats=1, opened=2))
    assert not page.BOUNDS["view_open_growth"].met(float(record["view_open_growth"] or 0))


@in_chromium
@pytest.mark.usefixtures("browser")
def test_a_page_that_shows_no_tree_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Watched, number: int) -> dict[str, Any]:
        raise ConfigError("planted")

    monkeypatch.setattr(Watched, "tree", none)
    with pytest.raises(ArpoError, match=r"Chromium failed: .*This tree cannot be shown: planted"):
        page.measure(page.PageBench(trees=(2,), repeats=1, opened=1))


@pytest.mark.usefixtures("wide_terminal")
def test_without_playwright_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    said = "arpo bench page needs Playwright: pip install playwright"
    assert main(["bench", "page"]) == 2
    assert said in capsys.readouterr().err
    assert main(["bench", "page", "--check"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    for ratio in page.BOUNDS:
        assert f"Not compared: page {ratio}, {said}" in text


def test_without_chromium_it_says_how_to_get_it(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("playwright.sync_api")
    assert main(["bench", "page", "--chromium", str(tmp_path / "none")]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert "arpo bench page needs Chromium, and" in text
    assert "playwright install --with-deps chromium" in text


def test_the_same_seed_makes_the_same_run(tmp_path: Path) -> None:
    runs = [page._written(page._collected(seed), 18, tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, again, other = ((run.folder / "trees.jsonl.zst").read_bytes() for run in runs)
    assert first == again != other
    trees = list(read_trees(runs[0].folder / "trees.jsonl.zst"))
    assert [tree.meta["step"] for tree in trees] == [0] * 16 + [1] * 2
    assert runs[0].leaves == sum(len(tree.leaves()) for tree in trees)
    assert any(node.decision is not None and node.decision.granted for node in trees[0].nodes)


def test_nothing_to_measure_is_refused() -> None:
    for nothing in ({"trees": ()}, {"trees": (0,)}, {"trees": (5, 2)}, {"repeats": 0}, {"opened": 0}):
        with pytest.raises(ConfigError, match=r"from 1 on|at least 1"):
            page.PageBench(**nothing)  # type: ignore[arg-type]
