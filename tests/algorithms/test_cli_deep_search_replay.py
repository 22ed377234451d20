"""A run on deep search is recorded, and repeated to the byte with its pages, its searches and the network closed."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from envs.test_laws import made
from made_once import made_once
from test_cli_tools import FILES, logged

from algorithms.checkpoint import save_policy
from algorithms.cli import main
from algorithms.cli.environments import env_maker
from algorithms.models.embedded.cold_start import ColdStartConfig, build, cold_start, silent
from algorithms.rendering import TextRenderer
from algorithms.tracking.trees import read_trees
from arpo_envs.tools.browser import Document, Hit, PageError, WorldSite

ID = "ARPO/DeepSearch-v0"
SMALL = {"cities_per_country": 3, "difficulty": 1, "interpreter": {"imports": []}}
ARGS = ["cities_per_country=3", "difficulty=1", 'interpreter={"imports": []}']

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("wide_terminal")]


@pytest.fixture(scope="module")
def imitator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy that writes calls of all tools, often wrong ones, and knows nothing."""
    made(ID).close()  # skips by name where code cannot run

    def imitate(folder: Path) -> None:
        make_env = env_maker(ID, SMALL)
        phases = {"echo_steps": 0, "drill_steps": 0, "imitation_steps": 25, "imitation_rate": 1e-2}
        size = ColdStartConfig(hidden=32, layers=1, heads=2, batch=16, lessons=30, **phases)
        model, tokenizer = build(make_env, size, seed=0)
        cold_start(make_env, model, tokenizer, TextRenderer(tokenizer, with_instructions=False), size, seed=0, report=silent)
        save_policy(folder, model, tokenizer)
        (folder / "embedded.json").write_text('{"with_instructions": false}', encoding="utf-8")

    return made_once(tmp_path_factory, "deep-search-policy", imitate)


def train(policy: Path, run: Path, *more: str) -> int:
    words = ["--env", ID, "--env-args", *ARGS, "--prompts", "4", "--rollouts", "6", "--eval-questions", "4", "--steps", "2"]
    return main(["train", "--policy", str(policy), "--output", str(run), *words, *more])


def unreliable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets some pages and searches fail in each way, depending only on what is asked for."""
    fetch, search = WorldSite.fetch, WorldSite.search

    def fail(asked: str) -> PageError | None:
        match crc32(asked.encode()) % 9:
            case 2:
                raise TimeoutError
            case 4:
                raise ConnectionError("reset by peer")
            case 6:
                return PageError("the server is busy")
        return None

    def fetched(self: WorldSite, url: str, *, timeout: float) -> Document | PageError:
        return fail(url) or fetch(self, url, timeout=timeout)

    def found(self: WorldSite, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        return fail(query) or search(self, query, count, timeout=timeout)

    monkeypatch.setattr(WorldSite, "fetch", fetched)
    monkeypatch.setattr(WorldSite, "search", found)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closes the site, and every way out of this machine; the interpreter is a process on it."""
    connect = socket.socket.connect

    def refuse(self: Any, *given: Any, **named: Any) -> None:
        raise AssertionError("a page or a search was asked for")

    def to_this_machine(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX, "a connection was made"
        connect(self, address)

    monkeypatch.setattr(WorldSite, "fetch", refuse)
    monkeypatch.setattr(WorldSite, "search", refuse)
    monkeypatch.setattr(socket.socket, "connect", to_this_machine)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


def test_a_recorded_run_is_repeated_to_the_byte_with_everything_closed(
    imitator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.MonkeyPatch.context() as patched:
        unreliable(patched)
        assert train(imitator, one, "--tools", "record") == 0
    nodes = [node for tree in read_trees(one / "trees.jsonl.zst") for node in tree.nodes]
    called = {name: sum(node.text.startswith(f"<{name}>") for node in nodes) for name in ("search", "browser.open", "python")}
    assert all(called.values()), called
    assert {"TimeoutError", "ToolFault: ConnectionError: reset by peer"} <= {node.fault for node in nodes}
    assert any("the server is busy" in node.text for node in nodes)
    assert any(line["gradient_norm"] > 0 for line in logged(one))
    offline(monkeypatch)
    capsys.readouterr()
    assert train(imitator, two, "--tools", "replay", "--recording", str(one)) == 0
    for name in FILES:
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
    assert logged(two) == logged(one)
    assert "0 not recorded" in capsys.readouterr().out
