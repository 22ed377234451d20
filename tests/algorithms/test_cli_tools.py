"""`--tools record` and `replay`: a run is repeated without a call, to the byte, and goes on where an answer is missing."""

import json
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any
from zlib import crc32

import pytest
from test_cli_train import started

from algorithms.cli import main
from algorithms.tracking.trees import read_trees
from arpo_envs import ToolResult
from arpo_envs.tasks.world import load_world
from arpo_envs.tools.search import LiveSearchTool, SearchTool, index_of
from arpo_envs.tools.search.live import Found
from arpo_envs.tools.search.serve import RetrieveServer

SMALL = ["--env-args", "cities_per_country=4", "--prompts", "4", "--rollouts", "6", "--eval-questions", "4"]
CLOCKS = {"rollout_seconds", "update_seconds", "save_seconds", "clone_seconds_per_prompt", "tokens_per_second"}
FILES = ("trees.jsonl.zst", "before.json", "after.json", "policy/model.safetensors")

pytestmark = pytest.mark.usefixtures("wide_terminal")


def train(policy: Path, run: Path, *more: str, steps: int = 3) -> int:
    return main(["train", "--policy", str(policy), "--output", str(run), "--steps", str(steps), *SMALL, *more])


def evaluate(policy: Path, *more: str) -> int:
    words = ["--policy", str(policy), "--args", "cities_per_country=4", "split=test", "--questions", "24"]
    return main(["eval", *words, *more])


def status(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:
        return end.code


def said(capsys) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def logged(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in CLOCKS} for line in lines]


def unreliable(monkeypatch) -> None:
    """Lets some searches fail in each way, depending only on what they ask for: which call comes first, threads decide.

    Greedily the untrained policy asks the same for every question; with the "b" this is answered, so that some paths are left.
    """
    search = SearchTool.call

    def call(self: SearchTool, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        match crc32(f"b{arguments['query']}".encode()) % 7:
            case 2:
                raise TimeoutError
            case 4:
                raise ConnectionError("reset by peer")
            case 6:
                return ToolResult("The engine is busy.", "busy")
        return search(self, name, arguments, timeout=timeout)

    monkeypatch.setattr(SearchTool, "call", call)


def offline(monkeypatch) -> None:
    def call(self: SearchTool, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        raise AssertionError("a live call was made")

    monkeypatch.setattr(SearchTool, "call", call)


@pytest.fixture(scope="module")
def recorded(tiny_policy, tmp_path_factory) -> Path:
    """Returns the folder of a recorded run whose searches sometimes failed, and which was resumed."""
    run = tmp_path_factory.mktemp("runs") / "recorded"
    with pytest.MonkeyPatch.context() as monkeypatch:
        unreliable(monkeypatch)
        assert train(tiny_policy, run, "--tools", "record", steps=2) == 0
        assert main(["train", "--resume", str(run), "--steps", "3"]) == 0
    return run


def test_a_recorded_run_is_repeated_to_the_byte_without_a_call(recorded, tiny_policy, tmp_path, monkeypatch, capsys):
    offline(monkeypatch)
    again = tmp_path / "again"
    assert train(tiny_policy, again, "--tools", "replay", "--recording", str(recorded)) == 0
    for name in FILES:
        assert (again / name).read_bytes() == (recorded / name).read_bytes(), name
    assert logged(again) == logged(recorded)
    ends = [tree.nodes[leaf] for tree in read_trees(again / "trees.jsonl.zst") for leaf in tree.leaves()]
    assert {"TimeoutError", "ToolFault: ConnectionError: reset by peer"} <= {end.fault for end in ends}
    assert "answered from the recording: search" in (text := said(capsys))
    assert "0 not recorded" in text


def test_a_run_that_asked_a_server_is_repeated_when_that_is_gone_and_nothing_can_connect(tiny_policy, tmp_path, monkeypatch):
    def refuse(*given: Any) -> None:
        raise AssertionError("a connection was made")

    with RetrieveServer(index_of(load_world(4), "sqlite"), port=0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        words = ["--env-args", "cities_per_country=4", f"engine={server.url}"]
        assert train(tiny_policy, tmp_path / "one", *words, "--tools", "record", steps=1) == 0
        server.shutdown()
        thread.join()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    assert train(tiny_policy, tmp_path / "two", *words, "--tools", "replay", "--recording", str(tmp_path / "one"), steps=1) == 0
    for name in FILES:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    assert sum(line["executed_tool_calls_per_prompt"] for line in logged(tmp_path / "two")) > 0


@pytest.mark.slow
def test_a_recorded_run_that_is_killed_goes_on_and_is_repeated_without_a_call(tiny_policy, tmp_path, monkeypatch):
    killed, undisturbed, again = (tmp_path / name for name in ("killed", "undisturbed", "again"))
    words = ["train", "--policy", str(tiny_policy), "--output", str(killed), "--steps", "4", *SMALL, "--tools", "record"]
    with started([*words, "--checkpoint-every", "1"]) as process:
        while not (killed / "metrics.jsonl").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert len(logged(killed)) < 4
    assert main(["train", "--resume", str(killed)]) == 0
    assert train(tiny_policy, undisturbed, steps=4) == 0
    offline(monkeypatch)
    assert train(tiny_policy, again, "--tools", "replay", "--recording", str(killed), steps=4) == 0
    for name in FILES:
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes() == (again / name).read_bytes(), name


def test_a_miss_is_a_leaf_fault_that_is_counted_and_the_run_goes_on(recorded, tiny_policy, tmp_path, monkeypatch, capsys):
    offline(monkeypatch)
    other = tmp_path / "other"
    assert (
        train(tiny_policy, other, "--tools", "replay", "--recording", str(recorded / "tools.sqlite"), "--seed", "2", steps=1)
        == 0
    )
    ends = [tree.nodes[leaf] for tree in read_trees(other / "trees.jsonl.zst") for leaf in tree.leaves()]
    missing = [end for end in ends if end.fault.startswith("NotRecorded: The recording has no answer to this call of search.")]
    assert missing
    assert {end.status for end in missing} == {"tool_fault"}
    assert sum(line["failed_tool_fault"] for line in logged(other)) >= len(missing)
    assert "× tool fault: NotRecorded" in said(capsys)


def test_a_run_whose_recording_is_gone_is_not_resumed(recorded, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(recorded, run, ignore=shutil.ignore_patterns("tools.sqlite*"))
    assert status(["train", "--resume", str(run), "--steps", "4"]) == 2
    assert "tools.sqlite is gone: put it back" in said(capsys)


def test_an_evaluation_is_repeated_without_a_call(tiny_policy, tmp_path, monkeypatch, capsys):
    file = tmp_path / "tools.sqlite"
    with pytest.MonkeyPatch.context() as patched:
        unreliable(patched)
        assert evaluate(tiny_policy, "--tools", "record", "--recording", str(file), "--json", str(tmp_path / "one")) == 0
    offline(monkeypatch)
    assert evaluate(tiny_policy, "--tools", "replay", "--recording", str(file), "--json", str(tmp_path / "two")) == 0
    one, two = (json.loads((tmp_path / name).read_text(encoding="utf-8")) | {"seconds": 0} for name in ("one", "two"))
    assert one == two
    assert one["ended_tool_timeout"] > 0
    assert "0 not recorded" in said(capsys)


def test_a_recording_of_an_engine_on_the_web_is_replayed_without_its_key(tiny_policy, tmp_path, monkeypatch, capsys):
    env, file = ["cities_per_country=4", "engine=serper"], tmp_path / "tools.sqlite"
    asked = ["eval", "--policy", str(tiny_policy), "--args", *env, "split=test", "--questions", "8", "--closed-book"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SERPER_API_KEY", "s3cret-k3y")
        patched.setattr(LiveSearchTool, "find", lambda *_, **__: [Found("Köln", "a city", "")])
        assert main([*asked, "--tools", "record", "--recording", str(file), "--json", str(tmp_path / "one")]) == 0
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    assert main([*asked, "--tools", "replay", "--recording", str(file), "--json", str(tmp_path / "two")]) == 0
    one, two = (json.loads((tmp_path / name).read_text(encoding="utf-8")) | {"seconds": 0} for name in ("one", "two"))
    assert one == two
    assert "not measured without tools" not in said(capsys)
    replayed = ["--tools", "replay", "--recording", str(file), "--dry-run"]
    assert train(tiny_policy, tmp_path / "run", "--env-args", *env, *replayed) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--tools", "replay"], "--tools replay and --recording belong together"),
        (["train", "--recording", "run"], "--tools replay and --recording belong together"),
        (["train", "--tools", "replay", "--recording", "nowhere"], "There is no recording"),
        (["train", "--env", "ARPO/Python-v0", "--tools", "record"], "no tool whose calls can be recorded or replayed"),
        (["train", "--tools", "record", "--env-args", "tool_timeout=120"], "tool_timeout=120 of the environment is too long"),
        (["train", "--env-args", "engine=serper"], "The search engine serper needs a key"),
        (["train", "--env-args", "engine=serper", "--tools", "record"], "The search engine serper needs a key"),
        (["eval", "--policy", "{policy}", "--args", "engine=serper"], "The search engine serper needs a key"),
        (["entropy", "--policy", "{policy}", "--args", "engine=serper"], "The search engine serper needs a key"),
        (["entropy", "--policy", "embedded", "--args", "engine=serper"], "The search engine serper needs a key"),
        (
            ["sft", "--policy", "{policy}", "--env", "ARPO/SearchMini-v0", "--env-args", "engine=serper"],
            "The search engine serper needs a key",
        ),
        (["play", "ARPO/Search-v0", "--args", "engine=serper"], "The search engine serper needs a key"),
        (["eval", "--policy", "{policy}", "--tools", "record"], "--tools and --recording belong together"),
        (["eval", "--policy", "{policy}", "--tools", "record", "--recording", "{policy}"], "belongs to one evaluation"),
    ],
)
def test_what_would_have_no_effect_is_refused_and_leaves_nothing(words, message, tiny_policy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    assert status([word.format(policy=tiny_policy) for word in words]) == 2
    assert message in said(capsys)
    assert list(tmp_path.iterdir()) == []
