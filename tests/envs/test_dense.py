"""Dense retrieval: a model of the user's ranks alone, its vectors are made once, and what cannot be ranked is refused."""

import copy
import io
import json
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import gymnasium as gym
import httpx
import ngrams
import numpy as np
import pytest
from test_search_tool import HOSTILE, Few

import arpo_envs
from algorithms.cli import main
from algorithms.cli.serve_search import ServeSearchConfig, server
from arpo_envs import ConfigError, ToolFault
from arpo_envs.tasks.documents import FileCorpus
from arpo_envs.tasks.world import load_world
from arpo_envs.testing import check_tool
from arpo_envs.tools.search import DenseEngine, Index, SearchTool, index_of, make_search
from arpo_envs.tools.search.serve import RetrieveServer

VECTORS = {
    "east": [10, 0, 0],
    "north": [0, 2, 0],
    "again": [0, 2, 0],
    "up": [0.6, 0, 0.8],
    "query": [3, 4, 0],
    "nil": [0, 0, 0],
}
FEW = Few(*((name.title(), name) for name in ("east", "north", "again", "up")))


def by_hand(texts: list[str]) -> list[list[float]]:
    return [VECTORS[text] for text in texts]


def titles(index: Index, query: str, count: int = 4) -> list[str]:
    return [document.title for document in index.search(query, count)]


# --- what is found ---------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """Inner products 30, 8, 8 and 1.8; cosines 0.6, 0.8, 0.8 and 0.36. That a title is the query counts for nothing."""
    assert titles(index_of(FEW, DenseEngine(by_hand)), "query") == ["East", "North", "Again", "Up"]
    assert titles(index_of(FEW, DenseEngine(by_hand, normalise=True)), "query") == ["North", "Again", "East", "Up"]
    assert titles(index_of(FEW, DenseEngine(by_hand)), "up", 1) == ["East"]
    assert titles(index_of(FEW, DenseEngine(by_hand)), "query", 50) == ["East", "North", "Again", "Up"]


def test_queries_may_have_a_function_of_their_own() -> None:
    engine = DenseEngine(by_hand, queries=lambda texts: [[0, 0, 1]] * len(texts))
    assert titles(index_of(FEW, engine), "anything", 1) == ["Up"]


@pytest.mark.parametrize("query", ["nil", "", " \n"])
def test_a_query_that_says_nothing_finds_nothing(query: str) -> None:
    result = SearchTool(FEW, engine=DenseEngine(by_hand)).call("search", {"query": query}, timeout=1.0)
    assert result.error is None
    assert result.text.startswith("No results for ")


@pytest.mark.parametrize("query", [*HOSTILE, "half a character \ud800"])
def test_any_text_is_a_query(query: str) -> None:
    tool = SearchTool(load_world(2), engine="dense:ngrams:cosine")
    first = tool.call("search", {"query": query}, timeout=1.0)
    assert first.error is None
    assert first == tool.call("search", {"query": query}, timeout=1.0)


@pytest.mark.parametrize("engine", ["dense:ngrams:cosine", DenseEngine(ngrams.embed, normalise=True, backend="faiss")])
def test_a_model_finds_misspelt_names_of_the_world(engine: str | DenseEngine) -> None:
    """By chance one of a hundred would be found in three of some thousand documents, less than once."""
    world = load_world(10)
    names = [name for name in world.names if len(name) > 7][::7][:100]
    found = index_of(world, engine).search_all([name[:3] + name[4:] for name in names], 3)
    right = sum(name in [document.title for document in documents] for name, documents in zip(names, found, strict=True))
    assert len(names) == 100
    assert right > 70


# --- how an engine is named ------------------------------------------------------------------------------------------


def test_by_name_as_an_object_and_as_a_method() -> None:
    world = load_world(2)
    expected = index_of(world, DenseEngine(ngrams.embed)).search("paris", 5)
    for engine in ("dense:ngrams:embed", "dense:ngrams:model.encode", DenseEngine(ngrams.model.encode, backend="faiss")):
        assert index_of(world, engine).search("paris", 5) == expected
    tool = make_search("dense:ngrams:embed", world)
    assert isinstance(tool, SearchTool)
    assert tool.index is index_of(world, "dense:ngrams:embed")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("dense:", "is not written package.module:object"),
        ("dense:ngrams", "is not written package.module:object"),
        ("dense:nowhere_at_all:embed", "No module named 'nowhere_at_all'"),
        ("dense:ngrams:embet", "Did you mean 'embed'"),
        ("dense:ngrams:model", "is a Model. Name its function: dense:ngrams:model.encode"),
        ("dense:ngrams:number", "is a int. Expected a function or a DenseEngine"),
        ("dens:ngrams:embed", "dense:package.module:embed"),
    ],
)
def test_names_that_mean_nothing_are_refused(engine: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_search(engine, FEW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed": 7}, "functions from a list of texts"),
        ({"embed": by_hand, "queries": "query: "}, "functions from a list of texts"),
        ({"embed": by_hand, "batch": 0}, "batch must be at least 1"),
        ({"embed": by_hand, "backend": "fais"}, "Did you mean 'faiss'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DenseEngine(**arguments)


def test_without_faiss_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'arpo-envs\[faiss\]'"):
        DenseEngine(by_hand, backend="faiss")


# --- what a model may return -----------------------------------------------------------------------------------------


def broken(texts: list[str]) -> Any:
    raise RuntimeError("no memory")


RETURNED: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "raises": (broken, "failed: RuntimeError: no memory"),
    "nothing": (lambda texts: None, r"returned object of shape \(\)"),
    "words": (lambda texts: texts, "Expected an array of numbers with one row for each text"),
    "one vector": (lambda texts: np.ones(3), r"float64 of shape \(3,\) for"),
    "too few": (lambda texts: np.ones((len(texts) - 1, 3)), "one row for each text"),
    "no width": (lambda texts: np.ones((len(texts), 0)), "one row for each text"),
    "truth values": (lambda texts: np.ones((len(texts), 3), bool), "returned bool"),
    "complex": (lambda texts: np.ones((len(texts), 3), complex), "returned complex128"),
    "ragged": (lambda texts: [[1.0] * (number + 1) for number in range(len(texts))], "failed: ValueError"),
    "NaN": (lambda texts: [[1.0, np.nan]] * len(texts), "a vector with NaN or infinity in it for 'east'. Check the model"),
    "infinity": (lambda texts: [[1.0, -np.inf]] * len(texts), "NaN or infinity"),
    "out of range": (lambda texts: [[1e200, 1.0]] * len(texts), "NaN or infinity"),
    "long": (lambda texts: [[1e16, 1.0]] * len(texts), r"a length over 1e\+15"),
    "zero": (lambda texts: [[float(text != "again"), 0] for text in texts], "only zeros in it for 'again'"),
    "two widths": (lambda texts: np.ones((len(texts), 1 + ("up" in texts))), "vectors of 1 numbers, and then of 2"),
}


@pytest.mark.parametrize("name", RETURNED)
@pytest.mark.parametrize("normalise", [False, True])
def test_vectors_that_cannot_be_ranked_are_refused(name: str, normalise: bool) -> None:
    embed, message = RETURNED[name]
    with pytest.raises(ConfigError, match=message):
        Index(FEW, DenseEngine(embed, normalise=normalise, batch=3))


@pytest.mark.parametrize("name", [name for name in RETURNED if name not in ("zero", "two widths", "ragged")])
def test_a_model_that_fails_on_a_query_is_a_fault_of_the_tool(name: str) -> None:
    embed, message = RETURNED[name]
    tool = SearchTool(FEW, engine=DenseEngine(by_hand, queries=embed))
    with pytest.raises(ToolFault, match=message.replace("'east'", "'query'")):
        tool.call("search", {"query": "query"}, timeout=1.0)


def test_queries_of_another_model_are_told() -> None:
    tool = SearchTool(FEW, engine=DenseEngine(by_hand, queries=lambda texts: np.ones((len(texts), 4))))
    with pytest.raises(ToolFault, match="A query's vector has 4 numbers, a document's 3"):
        tool.call("search", {"query": "query"}, timeout=1.0)


def test_there_must_be_documents() -> None:
    with pytest.raises(ConfigError, match="no documents"):
        Index(Few(), DenseEngine(by_hand))


# --- what is kept ----------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileCorpus:
    """Returns 40 documents; `EMBEDDED` counts what is embedded, and a cache is empty."""
    monkeypatch.setenv("ARPO_ENVS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EMBEDDED", str(tmp_path / "log"))
    rows = [{"title": f"Town {number}", "text": f"place {number} by river {number % 3}"} for number in range(40)]
    (tmp_path / "towns.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return FileCorpus(tmp_path / "towns.jsonl")


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    """Returns what tells how many texts each call since the last time was given."""

    def since() -> list[int]:
        log = tmp_path / "log"
        found = [int(line) for line in log.read_text().split()] if log.exists() else []
        log.write_text("")
        return found

    return since


LOGGED = DenseEngine(ngrams.logged, name="logged 1", batch=16)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*.npy"))


def test_vectors_are_made_once_and_mapped_for_reading(corpus: FileCorpus, counted: Any, tmp_path: Path) -> None:
    first = Index(corpus, LOGGED)
    assert counted() == [16, 16, 8, 3], "all in batches, and three of them again"
    assert [(np.load(path).shape, np.load(path).dtype) for path in kept(tmp_path)] == [((40, ngrams.WIDTH), np.float32)]
    second = Index(FileCorpus(corpus.path), LOGGED)
    assert counted() == [3]
    assert second.search("river 2", 9) == first.search("river 2", 9)
    vectors = second._ranking._vectors  # type: ignore[attr-defined]
    assert isinstance(vectors, np.memmap)
    assert not vectors.flags.writeable
    assert all(not path.stat().st_mode & 0o022 for path in kept(tmp_path))


def test_what_makes_a_difference_is_kept_apart(corpus: FileCorpus, tmp_path: Path) -> None:
    Index(corpus, LOGGED)
    Index(corpus, DenseEngine(ngrams.logged, name="logged 2"))
    Index(corpus, DenseEngine(ngrams.logged, name="logged 1", normalise=True))
    assert len(kept(tmp_path)) == 3
    Index(corpus, DenseEngine(ngrams.logged, name="logged 1", backend="faiss", batch=7))
    assert len(kept(tmp_path)) == 3


def test_without_a_name_nothing_is_kept_or_recorded(corpus: FileCorpus, tmp_path: Path) -> None:
    tool = SearchTool(corpus, engine=DenseEngine(ngrams.logged))
    assert kept(tmp_path) == []
    assert tool.pure is None
    named = SearchTool(corpus, engine=LOGGED).pure
    assert named is not None
    assert named["engine"] == "dense(logged 1)"


def shifted(texts: list[str]) -> Any:
    return ngrams.embed(texts)[:, ::-1]


def narrower(texts: list[str]) -> Any:
    return ngrams.embed(texts)[:, :8] + 1


@pytest.mark.parametrize("embed", [shifted, narrower])
def test_another_model_of_the_same_name_is_noticed(corpus: FileCorpus, embed: Any, tmp_path: Path) -> None:
    Index(corpus, LOGGED)
    old = kept(tmp_path)[0].read_bytes()
    changed = DenseEngine(embed, name="logged 1")
    assert Index(corpus, changed).numbers("river 2", 9) == Index(corpus, DenseEngine(embed)).numbers("river 2", 9)
    assert kept(tmp_path)[0].read_bytes() != old


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:1000], lambda whole: b"x" * 200, "NaN"])
def test_a_damaged_file_is_made_anew(corpus: FileCorpus, damage: Any, tmp_path: Path) -> None:
    Index(corpus, LOGGED)
    (path,) = kept(tmp_path)
    whole = path.read_bytes()
    if damage == "NaN":
        values = np.load(path)
        values[7] = np.nan
        np.save(path, values)
    else:
        path.write_bytes(damage(whole))
    assert Index(corpus, LOGGED).numbers("river 2", 9) == Index(corpus, DenseEngine(ngrams.embed)).numbers("river 2", 9)
    assert path.read_bytes() == whole


def test_where_nothing_can_be_kept_vectors_are_in_memory(corpus: FileCorpus, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    index = Index(corpus, LOGGED)
    assert index.numbers("river 2", 9) == Index(corpus, DenseEngine(ngrams.embed)).numbers("river 2", 9)
    assert not index._ranking._vectors.flags.writeable  # type: ignore[attr-defined]


def test_a_model_that_fails_half_way_leaves_nothing(corpus: FileCorpus, tmp_path: Path) -> None:
    def fails(texts: list[str]) -> Any:
        return broken(texts) if "Town 39" in texts[-1] else ngrams.embed(texts)

    with pytest.raises(ConfigError, match="no memory"):
        Index(corpus, DenseEngine(fails, name="fails", batch=16))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy-lock"]


def _numbers(path: Path) -> list[int]:
    return Index(FileCorpus(path), LOGGED).numbers("river 2", 9)


def test_of_several_processes_one_makes_the_vectors(corpus: FileCorpus, counted: Any, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_numbers, [corpus.path] * 4, chunksize=1)
    assert found == [Index(corpus, DenseEngine(ngrams.embed)).numbers("river 2", 9)] * 4
    assert sorted(counted(), reverse=True)[:4] == [16, 16, 8, 3]


# --- as a tool and in an environment ---------------------------------------------------------------------------------


def test_it_keeps_the_laws_of_tools() -> None:
    assert check_tool(SearchTool(load_world(2), engine="dense:ngrams:embed")).ok


def test_clones_share_the_vectors_and_pickles_name_the_engine() -> None:
    tool = SearchTool(load_world(2), engine="dense:ngrams:embed")
    assert copy.deepcopy(tool).index is tool.index
    assert tool.clone(2) == [tool, tool]
    for engine in ("dense:ngrams:embed", ngrams.cosine):
        found = SearchTool(load_world(2), engine=engine)
        content = pickle.dumps(found)
        assert len(content) < 500
        query = {"query": "paris"}
        assert pickle.loads(content).call("search", query, timeout=1.0) == found.call("search", query, timeout=1.0)


class Uncopied(ngrams.Model):
    def __deepcopy__(self, memo: dict[int, Any]) -> "Uncopied":
        raise AssertionError("a model was copied")


@pytest.mark.parametrize("engine", ["dense:ngrams:cosine", DenseEngine(Uncopied().encode, normalise=True)])
def test_an_environment_searches_with_it_and_forks(engine: str | DenseEngine) -> None:
    env = gym.make("ARPO/SearchMini-v0", engine=engine, results=3)
    env.reset(seed=0)
    twin = arpo_envs.clone(env)
    seen = env.step("<search>Johannesbrg</search>")
    assert "Johannesburg: city in South Africa" in seen[0]
    assert twin.step("<search>Johannesbrg</search>") == seen
    assert twin.unwrapped.tools[0].index is env.unwrapped.tools[0].index


def test_a_person_plays_with_it_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("search Johannesbrg\nquit\n"))
    assert main(["play", "ARPO/SearchMini-v0", "--args", "engine=dense:ngrams:cosine", "results=3", "--seed", "1"]) == 0
    assert "Johannesburg: city in South Africa" in " ".join(capsys.readouterr().out.split())


def test_a_server_answers_with_it() -> None:
    with server(ServeSearchConfig(engine="dense:ngrams:cosine", port=0)) as serving:
        answer = asked(serving, {"queries": ["Germny", "Frence", " "], "topk": 3})
    index = index_of(load_world(), "dense:ngrams:cosine")
    expected = index.search_all(["Germny", "Frence", " "], 3)
    assert answer.json() == {
        "result": [[{"contents": f'"{one.title}"\n{one.text}'} for one in documents] for documents in expected]
    }
    assert [len(documents) for documents in expected] == [3, 3, 0]


def test_a_server_says_that_a_model_failed() -> None:
    with RetrieveServer(index_of(FEW, DenseEngine(by_hand, queries=broken)), port=0) as serving:
        answer = asked(serving, {"query": "query"})
    assert answer.status_code == 500
    assert "failed: RuntimeError: no memory" in answer.json()["detail"]


def asked(serving: RetrieveServer, request: dict[str, Any]) -> httpx.Response:
    thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        return httpx.post(serving.url, json=request, timeout=60)
    finally:
        serving.shutdown()
        thread.join()
