"""Questions that must not be passed on: known by each tree, and kept out of pages and trackers by one rule."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import pytest
from page_toys import Document, trees
from rollout_toys import One, calls_then_answer, grow

from algorithms.cli import main
from algorithms.cli.gating import Gate
from algorithms.tracking.trees import write_trees
from algorithms.tree import RolloutTree
from arpo_envs import Task
from arpo_envs.tasks.benchmarks import find_benchmark, read_benchmark
from arpo_envs.tasks.files import FileTasks, ListedTasks

ROW = {"id": "1", "question": "How much is 1 + 1?", "answer": "2"}
ENV = "ARPO/Python-v0"
SMALL = {"cities_per_country": 3}


def file(folder: Path, *rows: dict, name: str = "questions.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def marked(meta: dict, count: int = 1) -> list[RolloutTree]:
    return [replace(tree, meta=tree.meta | meta) for tree in trees(count)]


@pytest.mark.parametrize(("name", "gated"), [("gaia", True), ("hle", True), ("xbench", True), ("aime24", False)])
def test_a_tree_of_a_benchmark_says_so_whatever_its_file_is_called(tmp_path, name, gated):
    tasks = read_benchmark(find_benchmark(name), file(tmp_path, ROW)).tasks
    (tree,) = grow(script=calls_then_answer(0), env=partial(gym.make, ENV, tasks=tasks))
    assert (tree.meta["benchmark"], tree.meta["gated"]) == (name, gated)
    assert Gate().keeps_back(tree) == gated
    assert not Gate(include_gated=True).keeps_back(tree)


def test_in_a_mixture_each_tree_says_it_of_its_own_question(tmp_path):
    tasks = read_benchmark(find_benchmark("gaia"), file(tmp_path, ROW)).tasks
    weights = {ENV: 1.0, "ARPO/Search-v0": 1.0}
    mixture = partial(gym.make, "ARPO/Mixture-v0", envs=weights, arguments={ENV: {"tasks": tasks}, "ARPO/Search-v0": SMALL})
    found = grow(script=calls_then_answer(0), env=mixture, prompts=12)
    assert {tree.meta["env"] for tree in found} == weights.keys()
    config = {"env_args": [f"{ENV}:tasks=gaia.jsonl"]}
    for gate in (Gate(), Gate.of(config)):
        assert [gate.keeps_back(tree) for tree in found] == [tree.meta["env"] == ENV for tree in found]
    older = [RolloutTree(meta={"env": tree.meta["env"]}) for tree in found]
    assert list(map(Gate.of(config).keeps_back, older)) == [tree.meta["env"] == ENV for tree in found]


def test_a_source_can_say_it_by_its_name(tmp_path):
    source = ListedTasks(tmp_path / "any.jsonl", "gaia", [(1, Task("1", "How much is 1 + 1?", ("2",)))], digest="0")
    assert Gate().keeps_back(RolloutTree(meta=dict(source.provenance(source.get("1")))))


@pytest.mark.parametrize(("name", "kept"), [("HLE, a sample", True), ("sums", False)])
def test_a_source_of_others_can_say_it_by_nothing_but_its_name(name, kept):
    source = One()
    source.name = name
    (tree,) = grow(script=calls_then_answer(0), env=partial(gym.make, ENV, tasks=source))
    assert (tree.meta["source"], Gate().keeps_back(tree)) == (name, kept)
    assert Gate.of({"env_args": ["tasks=gaia.jsonl"]}).keeps_back(tree), "the configuration may know more than a name tells"


@pytest.mark.parametrize("extra", [{"canary": "x:1"}, {"gated": True}], ids=lambda extra: next(iter(extra)))
def test_a_row_can_say_it_of_itself(tmp_path, extra):
    source = FileTasks(file(tmp_path, {**ROW, **extra}, {**ROW, "id": "2"}))
    known = [source.provenance(task) for task in source.questions()]
    assert [Gate().keeps_back(RolloutTree(meta=dict(one))) for one in known] == [True, False]


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("data/GAIA/validation.jsonl", True),
        ("Humanity's Last Exam.jsonl", True),
        ("xbench-deepsearch.csv", True),
        ("gaiety.jsonl", False),
        ("aime24.jsonl", False),
    ],
)
def test_a_file_is_known_by_its_path(path, kept):
    for gate, meta in (
        (Gate(), {"tasks": path}),
        (Gate.of({"train_args": [f"tasks={path}"]}), {}),
        (Gate.of({"benchmark": path}), {}),
    ):
        assert gate.keeps_back(RolloutTree(meta=meta)) == kept
        assert gate.unknown == 0


@pytest.mark.parametrize("config", [None, "{", "[]"])
def test_what_nothing_is_known_of_is_let_through_and_told(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
    gate = Gate.of_folder(tmp_path)
    assert not gate.keeps_back(RolloutTree())
    assert "Nothing says where the questions of 1 tree are from" in gate.doubt()


def written(folder: Path, *words: str) -> tuple[int, Document | None]:
    page = folder / "page.html"
    status = main(["report", str(folder), "--output", str(page), *words])
    return status, Document(page.read_text(encoding="utf-8")) if page.is_file() else None


def test_a_page_leaves_out_the_trees_it_must_and_says_so(tmp_path, capsys):
    write_trees(tmp_path / "trees.jsonl.zst", marked({"benchmark": "hle", "gated": True}) + trees(2)[1:])
    status, page = written(tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert (status, [one["task"] for one in page.data("index")["prompts"]]) == (0, ["task-1"])
    assert "1 tree of Humanity's Last Exam, which must not be passed on" in said
    assert "Nothing says where the questions of 1 tree are from" in said
    assert "Humanity's Last Exam" in page.data("index")["selection"]
    _, page = written(tmp_path, "--include-gated")
    assert len(page.data("index")["prompts"]) == 2


@pytest.mark.parametrize("config", [{"benchmark": "hle"}, {"train_args": ["tasks=data/gaia.jsonl"]}, None])
def test_a_page_of_nothing_else_is_not_written(tmp_path, capsys, config):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_trees(tmp_path / "trees.jsonl.zst", trees(1) if config else marked({"gated": True}))
    assert written(tmp_path) == (2, None)
    assert "--include-gated" in capsys.readouterr().err
    assert written(tmp_path, "--include-gated")[0] == 0
