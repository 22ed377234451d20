"""Every code block of every page in docs/ runs; all blocks of a page share one namespace and one folder."""

import re
from pathlib import Path

import pytest
from pages import ELSEWHERE, ROOT, blocks, blocks_here, check_layout, run_page

from arpo_envs.tasks.world.corpus import SPLITS
from arpo_envs.tasks.world.questions import QuestionSource

PAGES = sorted((ROOT / "docs").glob("*.md"))
IDS = [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_layout(page: Path) -> None:
    check_layout(page)


# A quick page in `make test`, beside the README; the others, whose blocks train, with the slow tests.
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if page.stem == "answers" else pytest.mark.slow) for page in PAGES],
    ids=IDS,
)
def test_blocks_run(page: Path, sample_plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", sample_plugin)  # pages show commands with the parts of that package
    run_page(page, tmp_path, monkeypatch)


def test_what_runs_elsewhere_is_all_that_does_not_run_here() -> None:
    elsewhere = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "hubs").glob("test_*.py"))
    for name, sections in ELSEWHERE.items():
        page = ROOT / "docs" / f"{name}.md"
        left = {block.section for block in blocks(page) if block.runs} - {block.section for block in blocks_here(page)}
        assert left == sections
        for section in sections:
            assert f'section("{name}", "{section}"' in elsewhere, f"no test runs {section} of {page.name}"


def test_pages_with_an_example_have_one() -> None:
    for name in (
        "add-a-tool",
        "add-an-environment",
        "add-a-wrapper",
        "wrappers",
        "add-an-algorithm",
        "add-a-policy",
        "the-trainer",
        "quickstart",
    ):
        page = ROOT / "docs" / f"{name}.md"
        assert any(block.language == "python" for block in blocks(page)), f"{name}.md shows no code"


def test_the_table_of_questions_is_right() -> None:
    page = (ROOT / "docs" / "search-environment.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \|(.*)\|$", page, re.MULTILINE)
    assert [int(hops) for hops, _ in rows] == [1, 2, 3, 4]
    for hops, cells in rows:
        for split, cell in zip(SPLITS, cells.split("|"), strict=True):
            source = QuestionSource(hops=int(hops), split=split)
            assert cell.strip() == f"{len(source):,} ({len(source.answers()):,})"


def test_a_broken_block_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        run_page(page, tmp_path, monkeypatch)


def test_an_unknown_command_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nrm -rf nothing\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="no test knows how to run"):
        run_page(page, tmp_path, monkeypatch)


def test_the_table_of_algorithms_is_whole_and_cites_what_they_cite() -> None:
    from algorithms import make, names

    page = (ROOT / "docs" / "add-an-algorithm.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page.partition("## What is built in")[2], re.MULTILINE))
    assert rows == {name: make(name).source for name in names()}
