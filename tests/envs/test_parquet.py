"""Documents in a Parquet file are those of the same file in JSON Lines, found alike, and never all in memory."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from test_documents import TEXTS
from test_documents import write as write_lines

import arpo_envs
from arpo_envs import ConfigError
from arpo_envs.tasks import documents
from arpo_envs.tasks.documents import FileCorpus
from arpo_envs.tasks.parquet import ParquetTexts
from arpo_envs.tasks.world import Document
from arpo_envs.tools.search import Index

KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
TOWNS = [(f"Town {number % 7}", f"place number {number} by river {number % 3}") for number in range(40)]


def table(rows: list[tuple[Any, Any]], kind: pa.DataType = KINDS[0]) -> pa.Table:
    titles, texts = zip(*rows, strict=True)
    columns = {"id": pa.array(range(len(rows))), "title": pa.array(titles, pa.string()), "text": pa.array(texts, pa.string())}
    return pa.table({name: column if name == "id" else column.cast(kind) for name, column in columns.items()})


def write(path: Path, rows: list[tuple[Any, Any]], **options: Any) -> FileCorpus:
    parquet.write_table(table(rows), path, **options)
    return FileCorpus(path)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns where things are kept, from a few documents on."""
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(documents, "_KEPT", 10)
    documents._documents.cache_clear()
    return tmp_path / "cache"


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1),
    kind=st.sampled_from(KINDS),
    group=st.integers(1, 5),
    few=st.integers(1, 9),
    queries=st.lists(TEXTS, max_size=5),
)
def test_the_same_documents_and_results_as_from_json_lines(
    rows: list[tuple[str, str]], kind: pa.DataType, group: int, few: int, queries: list[str]
) -> None:
    """However long row groups are, however texts are stored, and whether they are few or copied."""
    folder = documents.cache_directory()
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table(rows, kind), folder / "drawn.parquet", row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_KEPT", few)
        one, other = write_lines(folder / "drawn.jsonl", rows), FileCorpus(folder / "drawn.parquet")
        assert list(other.documents()) == list(one.documents())
        assert other.documents()[-1] == one.documents()[-1]
        ranked = [Index(corpus, "sqlite") for corpus in (one, other)]
        for query in [*queries, rows[0][0], rows[-1][1]]:
            assert ranked[1].numbers(query, 5) == ranked[0].numbers(query, 5)


def test_many_documents_are_copied_once_and_read_one_at_a_time(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write(kept.parent / "towns.parquet", TOWNS, row_group_size=40)
    assert sorted(path.suffix for path in kept.iterdir()) == [".jsonl", ".npy"]
    assert corpus.documents()[17] == Document("Town 3", "Town 3: place number 17 by river 2")

    documents._documents.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(documents, "ParquetTexts", lambda *arguments: pytest.fail("it was read again"))
        assert len(FileCorpus(corpus.path).documents()) == len(TOWNS)

    (copy,) = kept.glob("*.jsonl")
    whole = copy.read_bytes()
    for damaged in (whole[:100], b""):
        copy.write_bytes(damaged)
        documents._documents.cache_clear()
        assert list(FileCorpus(corpus.path).documents()) == list(corpus.documents())
        assert copy.read_bytes() == whole


@pytest.mark.usefixtures("kept")
def test_a_mistake_in_a_long_file_leaves_no_copy(kept: Path) -> None:
    with pytest.raises(ConfigError, match="row 41"):
        write(kept.parent / "towns.parquet", [*TOWNS, ("Town", None)])
    assert list(kept.iterdir()) == []


def test_where_nothing_can_be_kept_documents_are_in_memory(kept: Path) -> None:
    kept.write_text("not a folder")
    corpus = write(kept.parent / "towns.parquet", TOWNS)
    assert list(corpus.documents()) == [Document(title, f"{title}: {text}") for title, text in TOWNS]


def test_no_more_than_a_part_of_a_row_group_is_in_memory(tmp_path: Path) -> None:
    rows = [(f"T{number}", f"{number} " + "lorem " * 150) for number in range(30_000)]
    path = tmp_path / "long.parquet"
    parquet.write_table(table(rows), path, row_group_size=len(rows), compression="none", use_dictionary=False)
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in ParquetTexts(path, ["title", "text"]))
    assert path.stat().st_size > 25 << 20
    assert most < 10 << 20


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Ada", "one"), ("Bob", None)], r"docs.parquet, row 2: 'text' must be a non-empty string, got None"),
        ([("Ada", "one"), (" ", "two")], r"docs.parquet, row 2: 'title' must be a non-empty string, got ' '"),
        ([("Ada", "one")] * 1500 + [(None, "two")], r"docs.parquet, row 1501: 'title'"),
    ],
)
def test_mistakes_in_rows_name_them(tmp_path: Path, rows: list[tuple[Any, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write(tmp_path / "docs.parquet", rows)


NOT_UTF8 = pa.array([b"caf\xe9"]).view(pa.string())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"title": ["Ada"], "body": ["one"]}, "one column 'text'. Its columns: title, body"),
        ({"title": ["Ada"], "text": [7]}, "row 1: 'text' must be a non-empty string, got 7"),
        ({"title": ["Ada"], "text": [b"one"]}, "row 1: 'text' must be a non-empty string, got b'one'"),
        ({"title": ["Ada"], "text": [{"en": "one"}]}, "row 1: 'text' must be a non-empty string"),
        ({"title": ["Ada"], "text": NOT_UTF8}, "a text that is not UTF-8"),
        (
            {"title": pa.array([], pa.string()), "text": pa.array([], pa.string())},
            "has no rows. Expected the columns title, text",
        ),
    ],
)
def test_mistakes_in_columns_say_what_is_expected(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "docs.parquet")
    with pytest.raises(ConfigError, match=message):
        FileCorpus(tmp_path / "docs.parquet")


def test_files_that_are_no_parquet_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "docs.PARQUET"
    path.write_text('{"title": "Ada", "text": "one"}\n')
    with pytest.raises(ConfigError, match=r"docs.PARQUET is not a Parquet file that can be read"):
        FileCorpus(path)
    parquet.write_table(table(TOWNS), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"docs.PARQUET is not a Parquet file that can be read"):
        FileCorpus(path)
    with pytest.raises(ConfigError, match="Check the path"):
        FileCorpus(tmp_path / "missing.parquet")


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(table(TOWNS), tmp_path / "docs.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'arpo-envs\[parquet\]'"):
        FileCorpus(tmp_path / "docs.parquet")


def test_an_environment_searches_it_and_clones_share_it(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "Where is place number 17?", "answer": "Town 3"}\n')
    corpus = write(tmp_path / "towns.parquet", TOWNS).path
    env = gym.make("ARPO/Search-v0", tasks=questions, corpus=corpus, results=1)
    env.reset(seed=0)
    twin = arpo_envs.clone(env)
    assert "place number 17" in env.step("<search>number 17</search>")[0]
    assert "place number 17" in twin.step("<search>number 17</search>")[0]
    assert twin.unwrapped.tools[0].index is env.unwrapped.tools[0].index
