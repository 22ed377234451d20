"""`arpo report`: one document that runs only its own code, and says what the trees say."""

import base64
import hashlib
import json
import os
import re
import zlib

from hypothesis import given
from hypothesis import strategies as st
from page_toys import HOSTILE, Document, hostile_tree, reported, trees

from algorithms.cli import main
from algorithms.cli.viewer import block, record, spread, summary
from algorithms.tracking.trees import write_trees


def test_a_page_is_one_document_whose_policy_names_its_code(tmp_path):
    page = Document(reported(tmp_path, trees()))
    (policy,) = [a["content"] for tag, a, _ in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    (script,), (style,) = page.texts("script"), page.texts("style")
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert allowed == {
        "default-src": "'none'",
        "script-src": f"'sha256-{hashes[0]}'",
        "style-src": f"'sha256-{hashes[1]}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not [a for _, a, _ in page.tags if {"src", "href", "style"} & a.keys() or any(name.startswith("on") for name in a)]
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|^import |^export ", script, re.MULTILINE
    )


def test_a_page_holds_what_the_run_holds(tmp_path):
    page = Document(reported(tmp_path, trees()))
    index, first = page.data("index"), page.data("tree-0")
    assert [(one["step"], one["prompt"], one["task"]) for one in index["prompts"]] == [
        (0, 1, "task-0"),
        (0, 2, "task-1"),
        (1, 1, "task-2"),
        (1, 2, "task-3"),
    ]
    assert index["metrics"] == [{"step": 0, "success": 0.5}, {"step": 1, "success": None}]
    tree = trees(1)[0]
    assert [node["parent"] for node in first["nodes"]] == [node.parent for node in tree.nodes]
    assert [node.get("decision") for node in first["nodes"]] == [n.decision and n.decision._asdict() for n in tree.nodes]
    ends = [(node["total"], node["status"]) for node in first["nodes"] if "outcome" in node]
    assert ends == [(tree.total_reward(leaf), tree.nodes[leaf].status) for leaf in tree.leaves()]
    assert page.data("vocabulary") is None


def test_the_golden_tree_is_summed_up():
    tree = trees(1)[0]
    said, calls = summary(tree), tree.tool_calls()
    assert (said["leaves"], said["ends"]) == (4, [["right", "answered", 2], ["wrong", "answered", 2]])
    assert said["calls"] == [calls.executed, calls.inherited, calls.replayed]
    assert said["tokens"] == [sum(sum(n.sampled) for n in tree.nodes), sum(sum(tree.sampled(leaf)) for leaf in tree.leaves())]
    assert said["mixed"] <= said["forks"] <= 3


def test_hostile_texts_stay_data(tmp_path):
    for name in ("hostile", "plain"):
        (tmp_path / name).mkdir()
    page, plain = (
        Document(reported(tmp_path / name, one)) for name, one in (("hostile", [hostile_tree()]), ("plain", trees(1)))
    )
    assert [tag for tag, _, _ in page.tags] == [tag for tag, _, _ in plain.tags]
    assert page.data("tree-0")["nodes"][1]["text"].startswith(HOSTILE[0])


@given(st.text())
def test_a_block_is_read_back(text):
    written = block({"text": text})
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", written)
    assert json.loads(zlib.decompress(base64.b64decode(written))) == {"text": text}


@given(st.integers(0, 300), st.data())
def test_those_that_come_first_are_spread_over_the_run(count, data):
    order = list(spread(count))
    assert sorted(order) == list(range(count))
    taken = data.draw(st.integers(0, count))
    for part in (range(count // 2), range(count // 2, count)):
        assert abs(len(set(order[:taken]) & set(part)) - taken / 2) <= taken / 4 + 1


def test_of_a_large_run_some_trees_are_written_and_the_page_says_so(tmp_path):
    size = len(block(record(trees(1)[0])))
    page = Document(reported(tmp_path, trees(9), "--megabytes", str(3.5 * size / 1e6)))
    index = page.data("index")
    assert (index["selection"][:14], len(index["prompts"])) == ("3 of 9 trees, ", 3)
    assert [one["task"] for one in index["prompts"]] == ["task-0", "task-4", "task-8"]


def test_a_run_in_a_folder_whose_name_is_no_text_has_a_page(tmp_path):
    run = tmp_path / os.fsdecode(b"a \xff run")
    run.mkdir()
    assert "<title>a \\udcff run · arpo</title>" in reported(run, trees(1))


def test_a_folder_that_is_not_there_is_made(tmp_path):
    write_trees(tmp_path / "trees.jsonl.zst", trees(1))
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "none" / "page.html")]) == 0
    assert (tmp_path / "none" / "page.html").is_file()
