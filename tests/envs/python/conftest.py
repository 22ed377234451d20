"""Which modes of the interpreter are always tested, and the two clouds that the tests of E2B run against."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2b_server import KEY, E2BServer
from python_sessions import MODES
from turns import Turns, take_turns

from arpo_envs.tasks import Task
from arpo_envs.tools import Session
from arpo_envs.tools.e2b import E2BTool

collect_ignore = ["isolation_scenarios.py"]
"""A program that tests start; it imports the server's package as the server does."""

TASK = Task("t", "What is 6 * 7?", ("42",))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    take_turns((item for item in items if item.path.parent == Path(__file__).parent), _mode)


def _mode(item: pytest.Item) -> Turns | None:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return next((Turns(name) for name, value in parameters.items() if isinstance(value, str) and value in MODES), None)


@dataclass
class Cloud:
    """What a test needs to use E2B, the real one or ours."""

    server: E2BServer | None

    def tool(self, **arguments: Any) -> E2BTool:
        return E2BTool(**({"timeout": 60.0} | arguments))

    def open(self, seed: int = 0, **arguments: Any) -> Session:
        return self.tool(**arguments).open(TASK, np.random.default_rng(seed))


@pytest.fixture(scope="session")
def loopback() -> Iterator[E2BServer]:
    with E2BServer() as server:
        yield server


@pytest.fixture
def server(loopback: E2BServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[E2BServer]:
    """A loopback server that the SDK takes for E2B, without faults, sandboxes or a past."""
    pytest.importorskip("e2b_code_interpreter", reason="E2B's SDK is not installed")
    loopback.forget()
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
        monkeypatch.setenv(name, loopback.url)
    for name in ("E2B_DEBUG", "E2B_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("E2B_API_KEY", KEY)
    yield loopback
    assert not loopback.errors, "the loopback server itself failed"
    assert not [fault for fault in loopback.faults if fault.times], "a planned fault never happened"


@pytest.fixture(params=["loopback", pytest.param("live", marks=pytest.mark.live_e2b)])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """E2B: ours, and with `-m live_e2b` the real one."""
    if request.param == "loopback":
        return Cloud(request.getfixturevalue("server"))
    pytest.importorskip("e2b_code_interpreter", reason="E2B's SDK is not installed")
    if not os.environ.get("E2B_API_KEY"):
        pytest.skip("live_e2b: E2B_API_KEY is not set")
    return Cloud(None)
