"""The search tool: exact titles first, same order every time, and no query can break it."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.errors import ConfigError
from arpo_envs.forking import ForkLevel
from arpo_envs.tasks.text import fold
from arpo_envs.tasks.world.corpus import Document, load_world
from arpo_envs.tools import Session, Tool
from arpo_envs.tools.search import SearchTool, index_of
from arpo_envs.tools.search.engines import ENGINES, kept_engine

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


@BOTH
def test_a_damaged_or_unwritable_folder_is_done_without(engine: str, tmp_path: Path) -> None:
    expected = ENGINES[engine](None, FEW.documents()).rank(["paris"], 3)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "damaged", tmp_path / "file" / "index"):
        assert kept_engine(engine, folder, FEW.documents).rank(["paris"], 3) == expected
