"""`arpo bench browser`: the shape of its result on a small site, and what it measures on; no time is asserted."""

import json
from pathlib import Path
from typing import Any

import pytest

from algorithms.bench import browser
from algorithms.cli import main
from arpo_envs import ConfigError

TIMES = {"start_ms", "first_p50_ms", "first_p99_ms", "again_p50_ms", "again_p99_ms", "clone_us", "index_s", "index_again_s"}
SIZES = {"pages_mb", "index_mb", "index_again_mb"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of eight pages, one of which is too large to be read."""
    made = tmp_path / "zoo" / "html"
    made.mkdir(parents=True)
    for number in range(8):
        text = f"<title>Page {number}</title><p>An index of animals, part {number}. <a href='1.html'>Next</a>"
        (made / f"{number}.html").write_text(text * (1 if number != 5 else 60_000), encoding="utf-8")
    return made


def test_the_result_is_flat_and_whole(folder: Path, tmp_path: Path, wide_terminal: None, capsys: Any) -> None:
    file = tmp_path / "browser.json"
    assert main(["bench", "browser", "--folder", str(folder), "--clones", "3", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record.keys() == {"site", "pages", "unreadable", *TIMES, *SIZES, *browser.BOUNDS}
    assert (record["site"], record["pages"], record["unreadable"]) == ("zoo", 6, 1)
    assert all(record[name] > 0.0 for name in TIMES)
    assert "6 pages of zoo, 1 others unreadable" in capsys.readouterr().out


def test_fewer_pages_are_spread_over_the_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(browser, "_opened", lambda session, url: (opened.append(url[-6:-5]), (0.001, True))[1])
    assert browser.open_pages(str(folder), 3, 1)["pages"] == 3
    assert opened[:7] == ["0", "2", "2", "4", "4", "7", "7"], "the first one only starts things; the others are opened twice"


def test_the_built_in_world_has_pages_to_open() -> None:
    found = browser.open_pages("", 2, 1)
    assert (found["pages"], found["unreadable"]) == (2, 0)


def test_what_is_measured_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "DOCUMENTATION", (str(tmp_path / "absent"), str(folder)))
    assert browser.BrowserBench().site == str(folder)
    assert browser.BrowserBench(world=True).site == ""
    assert browser.BrowserBench(folder=tmp_path).site == str(tmp_path)
    monkeypatch.setattr(browser, "DOCUMENTATION", ())
    assert browser.BrowserBench().site == ""


def test_mistakes_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pages must be at least 1"):
        browser.BrowserBench(pages=0)
    with pytest.raises(ConfigError, match="exclude each other"):
        browser.BrowserBench(world=True, folder=folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="There is no HTML in"):
        browser.measure(browser.BrowserBench(folder=tmp_path / "empty"))
    (tmp_path / "empty" / "alone.html").write_text("<p>x", encoding="utf-8")
    with pytest.raises(ConfigError, match="Fewer than two pages of"):
        browser.measure(browser.BrowserBench(folder=tmp_path / "empty"))


def test_missed_bounds_look_like_some() -> None:
    record = dict.fromkeys([*TIMES, *SIZES], 1.0) | {"site": "zoo", "pages": 3, "unreadable": 0}
    shown = browser.table(record | {"again_over_first": 0.6, "clone_over_first": 0.01})
    assert [cell for column in (3, 4) for cell in map(str, shown.columns[column].cells) if cell] == [
        *("0.60×", "0.01×", "≤ 0.5× missed", "≤ 0.1×")
    ]
