"""Documents that stay on disk: read one at a time, found by title, and the same as if all were in memory."""

import json
import pickle
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs import ConfigError
from arpo_envs.tasks import documents
from arpo_envs.tasks.documents import FileCorpus
from arpo_envs.tasks.world import Document
from arpo_envs.tools.search import Index
from arpo_envs.tools.search import titles as titles_module
from arpo_envs.tools.search import words as word_module
from arpo_envs.tools.search.titles import Titles, name_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


def write(path: Path, rows: list[tuple[str, str]], newline: str = "\n", end: str = "") -> FileCorpus:
    lines = [json.dumps({"title": title, "text": text}, ensure_ascii=False) for title, text in rows]
    path.write_bytes((newline.join(lines) + end).encode())
    return FileCorpus(path)


@settings(deadline=None)
@given(
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]),
    st.sampled_from(["", "\n", "\n\n"]),
)
def test_every_line_is_a_document(rows: list[tuple[str, str]], newline: str, end: str) -> None:
    """Whatever characters it holds: U+2028 ends no line."""
    path = Path(str(documents.cache_directory()), "drawn.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = write(path, rows, newline, end).documents()
    expected = [Document.titled(title, text) for title, text in rows]
    assert list(found) == expected
    assert found[-1] == expected[-1]
    assert list(found[:2]) == expected[:2]
    with pytest.raises(IndexError):
        found[len(rows)]


@pytest.mark.parametrize(
    ("title", "text", "has_title"),
    [
        ("Gold", "Gold", True),
        ("Gold", "Gold is a metal", True),
        ("Gold", "Gold's price", True),
        ("Gold", "Goldfish live in ponds", False),
        ("Gold", "Gold2 is a film", False),
        ("New York", "New Yorkers", False),
        ("Мир", "Мирный — город", False),
        ("!!!", "!!!, a band", True),
        ("!!!", "!!!a", True),
        ("東京", "東京は首都", True),
        ("Gold", "gold is a metal", False),
    ],
)
def test_a_document_gets_its_title_unless_it_begins_with_these_words(title: str, text: str, has_title: bool, tmp_path) -> None:
    (found,) = write(tmp_path / "one.jsonl", [(title, text)]).documents()
    assert found == Document(title, text if has_title else f"{title}: {text}")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["Ada", "ada", "ÁDA", "Bob", "!!!", "!?!", "C", "C++", "Bob Ada"]), min_size=1), st.booleans())
def test_titles_are_found_as_in_a_dictionary(names: list[str], collide: bool) -> None:
    """Those that may have a name are at least those that have it; and digests may collide as they like."""
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(titles_module, "_digest", lambda name: titles_module.np.uint64(7))
        table = Titles.of(names)
        for name in {*names, "nobody"}:
            having = [number for number, other in enumerate(names) if name_of(other) == name_of(name)]
            candidates = table.candidates(name_of(name))
            assert candidates == (list(range(len(names))) if collide else having)


def test_what_is_kept_finds_the_same_without_reading_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(tmp_path / "cache"))
    rows = [(f"Town {number % 7}", f"place number {number} by river {number % 3}") for number in range(40)]
    corpus = write(tmp_path / "towns.jsonl", rows)
    queries = ["town 3", "Town 3", "river 2", "place number 17", "nothing"]
    expected = [Index(corpus, "tantivy").search(query, 5) for query in queries]
    assert not (tmp_path / "cache").exists()

    monkeypatch.setattr(documents, "_KEPT", 10)
    monkeypatch.setattr(word_module, "_KEPT", 10)
    documents._documents.cache_clear()
    assert [Index(FileCorpus(corpus.path), "tantivy").search(query, 5) for query in queries] == expected
    assert {path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()} == {"lines", "titles", "index"}

    documents._documents.cache_clear()
    monkeypatch.setattr(documents, "_bounds", lambda path: pytest.fail("the lines were looked for again"))
    monkeypatch.setattr(Titles, "of", lambda titles: pytest.fail("the titles were sorted again"))
    assert [Index(FileCorpus(corpus.path), "tantivy").search(query, 5) for query in queries] == expected

    for length in (60, 0):
        for path in (tmp_path / "cache").glob("titles-*"):
            path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(pytest.fail.Exception, match="sorted again"):
            Index(FileCorpus(corpus.path), "tantivy")


def test_blank_lines_are_skipped_whatever_is_blank_in_them(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b' {"title": "Ada", "text": "one"}\n\x0c\n \t\n\x0b\r\n{"title": "Bob", "text": "two"}\n\n')
    assert list(FileCorpus(path).documents()) == [Document("Ada", "Ada: one"), Document("Bob", "Bob: two")]


def test_a_corpus_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "docs.jsonl", [("Ada", "one")])
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(FileCorpus(Path("docs.jsonl")))
    monkeypatch.chdir("/")
    documents._documents.cache_clear()  # as in another process
    assert list(pickle.loads(pickled).documents()) == [Document("Ada", "Ada: one")]


def test_a_file_that_is_changed_in_use_says_so(tmp_path: Path) -> None:
    corpus = write(tmp_path / "docs.jsonl", [("Ada", "one"), ("Bob", "two")])
    found = corpus.documents()
    corpus.path.write_text("{}")
    for number in (0, 1):
        with pytest.raises(ConfigError, match="was changed while it was in use"):
            found[number]


def test_threads_read_at_once(tmp_path: Path) -> None:
    rows = [(f"T{number}", "x" * (number + 1)) for number in range(200)]
    found = write(tmp_path / "docs.jsonl", rows).documents()
    wrong: list[int] = []

    def read() -> None:
        wrong.extend(number for number in range(200) if found[number].title != f"T{number}")

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
