"""The search tool: exact titles first, same order every time, and no query can break it."""

import copy
import multiprocessing
import pickle
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.errors import ConfigError
from arpo_envs.forking import ForkLevel
from arpo_envs.tasks.text import fold
from arpo_envs.tasks.world.corpus import Document, load_world
from arpo_envs.tools import Session, Tool
from arpo_envs.tools.search import SearchTool, engines, index_of
from arpo_envs.tools.search.engines import ENGINES, TantivyEngine, kept_engine

BOTH = pytest.mark.parametrize("engine", ["tantivy", "sqlite"])


class Few:
    """A corpus of a few documents; hashable by identity."""

    name = "few"

    def __init__(self, *documents: tuple[str, str]) -> None:
        self._documents = [Document(title, text) for title, text in documents]

    def documents(self) -> list[Document]:
        return self._documents


FEW = Few(
    ("Paris", "Paris: a city on the Seine."),
    ("Paris Saint-Germain", "Paris Saint-Germain: a club in Paris, Paris, Paris."),
    ("Seine", "Seine: a river through Paris."),
    ("Łódź", "Łódź: a city in Poland."),
    ("São Tomé", "São Tomé: an island city."),
    ("Twin", "Twin: the first of two."),
    ("twin", "twin: the second of two."),
    ("C", "C: one letter; not and or near."),
)


def titles(tool: SearchTool, query: str) -> list[str]:
    return [document.title for document in tool.index.search(query, tool.results)]


def text(tool: SearchTool, query: str) -> str:
    return tool.call("search", {"query": query}, timeout=1.0).text


@BOTH
def test_an_exact_title_comes_first_whatever_its_case_and_accents(engine: str) -> None:
    tool = SearchTool(FEW, engine=engine)
    assert titles(tool, "paris")[0] == "Paris"
    assert titles(tool, "  PARIS!")[0] == "Paris"
    assert titles(tool, "sao tome")[0] == "São Tomé"
    assert titles(tool, "Paris Saint Germain")[0] == "Paris Saint-Germain"
    assert titles(tool, "c")[0] == "C"


@BOTH
def test_titles_weigh_more_than_bodies_and_equals_keep_the_corpus_order(engine: str) -> None:
    tool = SearchTool(FEW, results=4, engine=engine)
    assert titles(tool, "the Seine river")[0] == "Seine"
    assert titles(tool, "twin") == ["Twin", "twin"]
    assert titles(tool, "two of")[:2] == ["Twin", "twin"]


@BOTH
def test_every_entity_of_the_world_is_found_by_its_name(engine: str) -> None:
    world = load_world(10)
    tool = SearchTool(world, results=1, engine=engine)
    for entity in range(0, len(world), 7):
        found = tool.index.search(world.names[entity], 1)
        assert fold(found[0].title) == fold(world.names[entity])


@BOTH
def test_results_are_the_documents_texts_one_a_line(engine: str) -> None:
    tool = SearchTool(FEW, results=2, engine=engine)
    assert text(tool, "paris").split("\n")[0] == "Paris: a city on the Seine."
    assert len(text(tool, "paris").split("\n")) == 2


@BOTH
@pytest.mark.parametrize("query", ["zzzz", "", " ", "!!!", "你好", "🙂", "\x00", "'", '"', "zz " * 5000])
def test_nothing_found_is_said_and_is_no_error(engine: str, query: str) -> None:
    result = SearchTool(FEW, engine=engine).call("search", {"query": query}, timeout=1.0)
    assert result.error is None
    assert result.text.startswith("No results for ")
    assert result.text.endswith(": try another name.")
    assert len(result.text) < 500


HOSTILE = [
    'title:"Paris" AND (',
    "NEAR(paris seine, 2)",
    "paris* OR NOT",
    "paris^4 +body:[a TO z}",
    '"); DROP TABLE documents; --',
    "a" * 100_000,
    "paris " * 20_000,
    "{paris} /regex(/ ~5 \\",
    "paris\x00seine",
    "‮Paris",
]


@BOTH
@pytest.mark.parametrize("query", HOSTILE)
def test_query_syntax_is_only_text(engine: str, query: str) -> None:
    tool = SearchTool(FEW, engine=engine)
    first = text(tool, query)
    assert first == text(tool, query)
    assert titles(tool, "paris")[0] == "Paris"


@BOTH
@settings(max_examples=150, deadline=None)
@given(query=st.text(max_size=200))
def test_any_text_is_a_query(engine: str, query: str) -> None:
    result = SearchTool(FEW, engine=engine).call("search", {"query": query}, timeout=1.0)
    assert result.error is None
    assert result.text


@BOTH
def test_calls_from_several_threads_agree(engine: str) -> None:
    world = load_world(10)
    tool = SearchTool(world, engine=engine)
    queries = [world.names[i] + " city in France" for i in range(0, 400, 2)]
    alone = [text(tool, query) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: text(tool, query), queries)) == alone


@BOTH
def test_the_index_is_shared_by_tools_and_clones_and_travels_by_reference(engine: str) -> None:
    world = load_world(10)
    tool = SearchTool(world, engine=engine)
    assert SearchTool(world, results=1, engine=engine).index is tool.index
    assert copy.deepcopy(tool).index is tool.index
    assert tool.clone(2) == [tool, tool]
    content = pickle.dumps(tool)
    assert len(content) < 500
    assert text(pickle.loads(content), "paris") == text(tool, "paris")
    assert index_of(world, engine) is tool.index


class CountingTool(SearchTool):
    """How a test counts executed calls: by subclassing."""

    calls = 0

    def call(self, name: str, arguments: object, *, timeout: float) -> object:  # type: ignore[override]
        type(self).calls += 1
        return super().call(name, arguments, timeout=timeout)  # type: ignore[arg-type]


def test_a_subclass_stays_itself_when_pickled_and_counts() -> None:
    tool = pickle.loads(pickle.dumps(CountingTool(load_world(10))))
    assert isinstance(tool, CountingTool)
    before = CountingTool.calls
    tool.call("search", {"query": "paris"}, timeout=1.0)
    assert CountingTool.calls == before + 1


def test_protocols() -> None:
    tool = SearchTool(FEW)
    assert isinstance(tool, Tool)
    assert isinstance(tool, Session)
    assert tool.fork_level is ForkLevel.EXACT
    assert tool.specs[0].text_parameter == "query"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "tantivi"}, "Did you mean 'tantivy'"),
        ({"results": 0}, "between 1 and 50"),
        ({"results": 51}, "between 1 and 50"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchTool(FEW, **arguments)  # type: ignore[arg-type]


def test_auto_falls_back_to_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert SearchTool(FEW, engine="auto").engine == "sqlite"
    with pytest.raises(ConfigError, match="not installed"):
        SearchTool(FEW, engine="tantivy")


def _keep(arguments: tuple[str, str]) -> list[int]:
    engine, folder = arguments
    return kept_engine(engine, Path(folder) / "index", FEW.documents).rank(["paris"], 3)


@BOTH
def test_several_processes_may_keep_an_index_at_once(engine: str, tmp_path: Path) -> None:
    expected = ENGINES[engine](None, FEW.documents()).rank(["paris"], 3)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_keep, [(engine, str(tmp_path))] * 4) == [expected] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_index_that_is_chosen_is_the_one_of_its_engine() -> None:
    world = load_world(3)
    assert index_of(world, "auto") is index_of(world, "tantivy")
    with pytest.raises(ConfigError, match="Did you mean 'sqlite'"):
        index_of(world, "sqlit")


@BOTH
def test_a_damaged_or_unwritable_folder_is_done_without(engine: str, tmp_path: Path) -> None:
    expected = ENGINES[engine](None, FEW.documents()).rank(["paris"], 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    for name in ("index.db", "meta.json"):
        (tmp_path / "damaged" / name).touch()
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "empty", tmp_path / "damaged", tmp_path / "file" / "index"):
        assert kept_engine(engine, folder, FEW.documents).rank(["paris"], 3) == expected


@BOTH
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "interrupted"])
def test_an_index_that_cannot_be_written_to_its_end_leaves_nothing(
    engine: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, documents: Iterable[Document]) -> None:
        (folder / "half").write_bytes(b"...")
        raise error

    monkeypatch.setattr(ENGINES[engine], "write", fail)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            kept_engine(engine, tmp_path / "index", FEW.documents)
    else:
        expected = ENGINES[engine](None, FEW.documents()).rank(["paris"], 3)
        assert kept_engine(engine, tmp_path / "index", FEW.documents).rank(["paris"], 3) == expected
    assert list(tmp_path.iterdir()) == []


COMMON = {"the": 1.0, "to": 0.8, "of": 0.6}
"""Words, and the share of the documents that have them."""


@pytest.fixture(scope="module")
def many() -> tuple[TantivyEngine, list[Document]]:
    """An engine that takes 2,000 documents for many, and these."""
    rng = np.random.default_rng(0)
    common = rng.random((2000, len(COMMON))) < list(COMMON.values())
    documents = []
    for number, rare in enumerate(rng.zipf(1.3, (2000, 12)) % 1000):
        words = [word for word, there in zip(COMMON, common[number], strict=True) if there] + [f"w{word}" for word in rare]
        documents.append(Document(f"t{number % 500}", " ".join(rng.permutation(words))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_MANY", 2000)
        return TantivyEngine(None, documents), documents


def test_among_many_documents_the_best_are_those_of_all_words(many: tuple[TantivyEngine, list[Document]]) -> None:
    """The rarest words find so few that none is missed, or, with common ones alone, most of the best."""
    engine, documents = many
    thorough = TantivyEngine(None, documents)
    having = Counter(word for document in documents for word in {*document.text.split()})
    for document in documents[::20]:
        rare = [word for word in document.text.split() if having[word] < 8]
        query = [*COMMON, *rare, document.title]
        assert not rare or engine.rank(query, 3) == thorough.rank(query, 3)
    some = [document.text.split()[:8] for document in documents[:200]]
    shared = [len({*engine.rank(query, 3)} & {*thorough.rank(query, 3)}) for query in some]
    assert 0.9 * 3 * len(some) <= sum(shared) < 3 * len(some)  # all would be found by reading all words


def test_words_of_most_documents_rank_those_that_others_find_like_a_search_by_all() -> None:
    """Titles and bodies, words that occur several times, long and short documents, and documents that are the same."""
    rng = np.random.default_rng(0)
    documents = []
    for number in range(2000):
        title = ["guide"] * (rng.random() < 0.6) + ["part"] * rng.integers(0, 3)
        text = ["the"] * rng.integers(0, 6) + ["of"] * rng.integers(0, 4) + ["filler"] * rng.integers(1, 30)
        documents.append(Document(" ".join(title), " ".join(text + ["needle"] * (number % 100 == 0))))
    documents[1900] = documents[100] = documents[1000]
    thorough = TantivyEngine(None, documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_MANY", 2000)
        engine = TantivyEngine(None, documents)
    for query in (["needle", "the"], ["guide", "needle"], ["part", "of", "the", "needle", "guide"]):
        expected = thorough.rank(query, 20)
        assert engine.rank(query, 20) == expected
        assert engine.rank(query, 5) == expected[:5]
        assert expected.index(100) + 2 == expected.index(1000) + 1 == expected.index(1900)


def test_documents_are_found_where_they_are_not_in_their_order(tmp_path: Path) -> None:
    """As in a segment that tantivy has merged from several."""
    index = tantivy.Index(engines._schema(), path=str(tmp_path))
    writer = index.writer(num_threads=1)
    for number in reversed(range(200)):
        writer.add_document(tantivy.Document(title=[f"t{number}"], body=["same"], number=[number]))
    writer.commit()
    writer.wait_merging_threads()
    assert TantivyEngine(tmp_path).rank(["t150"], 1) == [150]


def test_words_of_most_documents_are_found_where_no_others_are(many: tuple[TantivyEngine, list[Document]]) -> None:
    engine, documents = many
    thorough = TantivyEngine(None, documents)
    once = [word for word, number in Counter(" ".join(document.text for document in documents).split()).items() if number == 1]
    for query in (["the"], ["of", "the"], ["the", once[0]], ["nowhere", "to"]):
        assert engine.rank(query, 3) == thorough.rank(query, 3)
        assert len(engine.rank(query, 3)) == 3


def test_in_several_segments_the_same_is_found(tmp_path: Path) -> None:
    """The second segment is written by hand: it takes millions of documents to fill two."""
    documents = [Document(f"t{number % 7}", f"word w{number % 5}") for number in range(50)]
    TantivyEngine.write(tmp_path, documents[:20])
    writer = tantivy.Index.open(str(tmp_path)).writer(num_threads=1)
    for number, (title, text) in enumerate(documents[20:], start=20):
        writer.add_document(tantivy.Document(title=[title], body=[text], number=[number]))
    writer.commit()
    writer.wait_merging_threads()
    lone, several = TantivyEngine(None, documents), TantivyEngine(tmp_path)
    for query in (["word"], ["t3", "w1"], ["w2", "t6", "word"]):
        assert several.rank(query, 50) == lone.rank(query, 50)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*COMMON, "nowhere", *(f"w{word}" for word in range(1000))]), min_size=1, unique=True))
def test_as_many_are_found_as_have_any_word(many: tuple[TantivyEngine, list[Document]], query: list[str]) -> None:
    engine, documents = many
    having = [number for number, document in enumerate(documents) if set(query) & set(document.text.split())]
    found = engine.rank(query, 5)
    assert len(found) == min(5, len(having))
    assert set(found) <= set(having)


def test_only_among_many_documents_is_an_old_recording_of_no_use() -> None:
    assert TantivyEngine.identity(34_374) == TantivyEngine.identity(1)
    assert TantivyEngine.identity(1_000_000) != TantivyEngine.identity(1)
