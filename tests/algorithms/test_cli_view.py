"""`arpo view`: what it answers, whom it answers, and what comes while a run is still written."""

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest
from model_toys import byte_tokenizer
from page_toys import HOSTILE, Document, hostile_tree, trees, viewed

from algorithms.cli import main
from algorithms.cli.viewer import record, summary
from algorithms.cli.watched import Watched
from algorithms.tracking.trees import write_trees


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Returns a run of two steps with two prompts each."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_trees(folder / "trees.jsonl.zst", trees(4))
    (folder / "metrics.jsonl").write_text('{"step": 0, "success": 0.5}\n{"step": 1, "success": null}\n{"st', encoding="utf-8")
    return folder


def test_the_page_asks_its_server_and_nobody_else(run):
    with viewed(run) as server, httpx.Client(base_url=server.url) as client:
        answer = client.get("/")
    page = Document(answer.text)
    (policy,) = [a["content"] for tag, a, _ in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"] == f"{policy}; frame-ancestors 'none'"
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'self'")
    assert all(re.fullmatch(r"'sha256-[\w+/]+='", rules[name]) for name in ("script-src", "style-src"))
    (script,) = page.texts("script")
    assert "start(served);" in script
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|\beval\b|^import |^export ", script, re.MULTILINE)


def test_it_answers_with_what_the_run_holds(run):
    with viewed(run) as server, httpx.Client(base_url=server.url) as client:
        index, first, step = (client.get(path).json() for path in ("/index", "/tree/0", "/step/1"))
    lines = [(one["number"], one["step"], one["prompt"], one["task"]) for one in index["prompts"]]
    assert lines == [(0, 0, 1, "task-0"), (1, 0, 2, "task-1"), (2, 1, 1, "task-2"), (3, 1, 2, "task-3")]
    assert [one["number"] for one in step["prompts"]] == [2, 3]
    assert index["metrics"] == [{"step": 0, "success": 0.5}, {"step": 1, "success": None}]
    assert (index["selection"], index["unread"], index["more"]) == ("4 trees", 0, False)
    expected = json.loads(json.dumps(record(trees(1)[0]) | {"vocabulary": None}, default=list))
    assert first == expected
    assert index["prompts"][0].items() >= json.loads(json.dumps(summary(trees(1)[0]))).items()


@pytest.mark.parametrize(
    "path",
    ["/config.json", "/../run/metrics.jsonl", "/%2e%2e/metrics.jsonl", "/tree/../../x", "//etc/passwd", "/tree/-1", "/tree/4",
     "/tree/1e3", "/tree/9999999999", "/tree/0?x=1", "/?x", "/index?since=1", "/favicon.ico", "/tree/", "*"],
)  # fmt: skip
def test_no_path_leads_to_a_file(run, path):
    with viewed(run) as server, socket.create_connection(server.server_address[:2]) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 404")
    assert set(json.loads(answer.partition("\r\n\r\n")[2])) == {"detail"}


@pytest.mark.parametrize(
    ("method", "host", "status"),
    [
        ("GET", "evil.example", 421),
        ("GET", "evil.example:8765", 421),
        ("GET", "127.0.0.1.evil.example", 421),
        ("GET", "", 421),
        ("GET", "localhost:1", 200),
        ("GET", "127.0.0.1", 200),
        ("POST", "localhost", 501),
        ("HEAD", "localhost", 501),
    ],
)
def test_it_answers_to_its_own_name_and_only_what_is_asked_of_it(run, method, host, status):
    with viewed(run) as server:
        answer = httpx.request(method, server.url, headers={"Host": host})
    assert answer.status_code == status
    assert ("<script>" in answer.text) == (status == 200)


def test_hostile_texts_are_sent_as_data(tmp_path):
    write_trees(tmp_path / "trees.jsonl", [hostile_tree()])
    with viewed(tmp_path) as server:
        answer = httpx.get(f"{server.url}/tree/0")
    assert (answer.headers["Content-Type"], answer.headers["X-Content-Type-Options"]) == ("application/json", "nosniff")
    assert answer.json()["nodes"][1]["text"].startswith(HOSTILE[0])


def test_what_has_not_changed_is_not_sent_again_and_what_comes_is(run):
    with viewed(run) as server, httpx.Client(base_url=server.url) as client:
        first = client.get("/index")
        known = {"params": {"since": first.json()["since"]}, "headers": {"If-None-Match": first.headers["ETag"]}}
        again = client.get("/index", **known)
        assert (again.status_code, again.content) == (304, b"")
        write_trees(run / "trees.jsonl.zst", [replace(trees(1)[0], meta={"step": 2})])
        with (run / "metrics.jsonl").open("a", encoding="utf-8") as lines:
            lines.write('ep": 2}\n')
        server.run.look(10.0)
        more = client.get("/index", **known).json()
    assert ([one["number"] for one in more["prompts"]], more["metrics"], more["whole"]) == ([4], [{"step": 2}], False)
    assert more["selection"] == "5 trees"


def test_a_line_that_a_full_disk_has_cut_off_hides_none_after_it(run):
    (run / "metrics.jsonl").write_bytes(b'{"step": 0}\n\0\0\0{"ste\n\xff\n{"step": 1}\n')
    with viewed(run) as server:
        assert httpx.get(f"{server.url}/index").json()["metrics"] == [{"step": 0}, {"step": 1}]


def test_a_run_that_begins_again_is_sent_whole(run):
    watched = Watched(run)
    watched.look(10.0)
    first = watched.index("")
    (run / "trees.jsonl.zst").unlink()
    watched.look(10.0)
    assert watched.index(first["since"])["selection"].startswith("No trees yet")
    write_trees(run / "trees.jsonl.zst", trees(2))
    watched.look(10.0)
    again = watched.index(first["since"])
    assert (again["whole"], [one["number"] for one in again["prompts"]], len(again["metrics"])) == (True, [0, 1], 2)
    (run / "metrics.jsonl").write_text('{"step": 0}\n', encoding="utf-8")
    watched.look(10.0)
    assert watched.index(again["since"])["metrics"] == [{"step": 0}]


def test_of_many_trees_one_is_read_and_the_first_lines_are_sent_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("algorithms.cli.watched._MOST", 3)
    write_trees(tmp_path / "trees.jsonl.zst", trees(8))
    watched = Watched(tmp_path)
    watched.look(0.0)
    assert (watched.index("")["unread"], watched.index("")["selection"]) == (8, "0 of 8 trees read so far")
    assert [one["number"] for one in watched.step(2)["prompts"]] == [4, 5]
    assert watched.tree(7)["task"] == "task-7"
    assert not watched.look(10.0)
    found, since, more = [], "", True
    while more:
        part = watched.index(since)
        found += [one["number"] for one in part["prompts"]]
        since, more = part["since"], part["more"]
    assert sorted(found) == list(range(8))
    assert found[:3] == [4, 5, 7]  # what was looked at is known first


def test_reading_on_rests_while_somebody_looks_at_trees(tmp_path, monkeypatch):
    monkeypatch.setattr("algorithms.cli.watched._REST", 1000.0)
    write_trees(tmp_path / "trees.jsonl.zst", trees(8))
    for look_at in (lambda watched: watched.tree(7), lambda watched: watched.step(3)):
        watched = Watched(tmp_path)
        watched.look(0.0)
        look_at(watched)
        assert watched.look(0.05)
        assert watched.index("")["unread"] == 8
    monkeypatch.setattr("algorithms.cli.watched._REST", 0.01)
    watched.tree(7)
    assert not watched.look(10.0)


def test_a_run_without_trees_waits_for_them(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with viewed(tmp_path) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/index").json()["prompts"] == []
        assert client.get("/tree/0").status_code == 404
        write_trees(tmp_path / "trees.jsonl.zst", trees(1))
        server.run.look(10.0)
        assert client.get("/tree/0").json()["task"] == "task-0"


def test_tokens_have_texts_as_soon_as_there_is_a_tokenizer(run):
    watched, tokenizer = Watched(run), byte_tokenizer()
    watched.look(10.0)
    assert watched.tree(0)["vocabulary"] is None
    tokenizer.save_pretrained(run / "policy")
    ids = {int(token) for node in trees(1)[0].nodes for token in node.tokens}
    assert watched.tree(0)["vocabulary"] == {one: tokenizer.decode([one]) for one in sorted(ids)}


def test_gated_questions_are_not_shown_unless_asked_for(tmp_path):
    secret = [replace(tree, meta=tree.meta | {"benchmark": "gaia", "gated": True}) for tree in trees(2)[1:]]
    write_trees(tmp_path / "trees.jsonl.zst", [*trees(1), *secret])
    for include, status, numbers in ((False, 404, [0]), (True, 200, [0, 1])):
        with viewed(tmp_path, include_gated=include) as server, httpx.Client(base_url=server.url) as client:
            assert client.get("/tree/1").status_code == status
            index = client.get("/index").json()
        assert [one["number"] for one in index["prompts"]] == numbers
        assert ("GAIA" in index["selection"]) == (not include)


def test_a_damaged_tree_is_told_and_the_others_are_shown(tmp_path):
    write_trees(tmp_path / "trees.jsonl", trees(1))
    with (tmp_path / "trees.jsonl").open("a", encoding="utf-8") as lines:
        lines.write("{}\n")
    watched = Watched(tmp_path)
    watched.look(10.0)
    assert watched.index("")["selection"] == "1 of 2 trees. 1 tree cannot be read"


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["none"], "none has no trees: expected the folder of a run"), ([".", "--port", "99999"], "between 0 and 65535")],
)
def test_mistakes_are_told_before_anything_is_served(words, hint, capsys):
    try:
        status: object = main(["view", *words])
    except SystemExit as end:  # the parser's own way
        status = end.code
    said = capsys.readouterr()
    assert (status, hint in " ".join(f"{said.out} {said.err}".replace("│", " ").split())) == (2, True)


def test_a_port_that_is_taken_is_told(run, capsys):
    with viewed(run) as server:
        assert main(["view", str(run), "--port", str(server.server_address[1])]) == 2
    assert "Choose another --port" in " ".join(capsys.readouterr().err.split())


def test_ctrl_c_ends_it_cleanly(run):
    code = f"import sys; from algorithms.cli import main; sys.exit(main(['view', {str(run)!r}, '--port', '0']))"
    # What runs in the background of a shell, as these tests may, has Ctrl-C ignored, and so have its children.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-W", "error", "-u", "-c", code]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, preexec_fn=heard) as process:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        assert httpx.get(f"{url}/index").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_answers_are_packed_for_those_who_can_unpack(run):
    with viewed(run) as server, httpx.stream("GET", server.url, headers={"Accept-Encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())
    with viewed(run) as server:
        plain = httpx.get(server.url, headers={"Accept-Encoding": "identity"})
    assert gzip.decompress(packed) == plain.content
