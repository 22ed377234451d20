"""What all tests share; it also marks this folder as importable, so that they find `toys`."""

import gc
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from made_once import made_once
from turns import TOLD, in_turn, marked, take_turns

ROOT = Path(__file__).parents[1]
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# Before torch is imported, here and in the processes that tests start. Tests run side by side, so each has one thread
# unless a number is given, and threads that wait let others work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# oneDNN would use AMX where torch was told to do without; torch itself fails on that mixture (`pack_vnni2`, bfloat16).
_ONEDNN = {"default": "SSE41", "avx2": "AVX2"}
if os.environ.get("ATEN_CPU_CAPABILITY") in _ONEDNN:
    os.environ.setdefault("DNNL_MAX_CPU_ISA", _ONEDNN[os.environ["ATEN_CPU_CAPABILITY"]])

# An example may take as long as a loaded machine makes it: a time is never an assertion.
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    settings.register_profile("any machine", deadline=None)
    settings.load_profile("any machine")

TOGETHER = {
    "attacks": ("tests/envs/python/test_attacks.py",),  # programs of their own, which mostly wait
    "limits": tuple(  # of time, which is waited for
        f"tests/envs/python/test_{name}.py"
        for name in ("after_the_answer", "python_limits", "server_life", "shares", "waiting")
    ),
    "sandbox": ("tests/envs/python/", "tests/envs/test_python_env.py"),  # time limits of their own, processes that are counted
    "leaks": (  # counted faster without torch
        *(f"tests/envs/test_{name}" for name in ("laws", "conformance", "kit_", "check_tool", "forking", "search_env")),
        "tests/wrappers/",
        "arpo_envs/",
        "wrappers/",
    ),
}
"""Tests that one process runs, one after another, by where they lie; of the others each file is run by one."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid) or nodeid.split("::")[0]

    return ByPlace(config, log)


def _group(nodeid: str) -> str | None:
    return next((group for group, places in TOGETHER.items() if nodeid.startswith(places)), None)


def pytest_report_header() -> str:
    """Says how what is run can be chosen again."""
    return TOLD


LONG = 600
"""Seconds of a test's own limit from which on it begins before all others."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Leaves what is to be run; begins with what takes longest, or other processes would wait for it at the end."""
    take_turns(items, marked)
    yield
    chosen = in_turn(items)
    config.hook.pytest_deselected(items=[*{*items} - {*chosen}])
    items[:] = chosen

    def order(item: pytest.Item) -> tuple[float, bool]:
        limit = item.get_closest_marker("timeout")
        return -limit.args[0] if limit is not None and limit.args[0] >= LONG else 0.0, _group(item.nodeid) is None

    items.sort(key=order)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spares what imports modules, and then the checks for leaks, going through a million objects at every collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _not_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _not_skipped((yield))


def _not_skipped(report: Report) -> Report:
    """Makes a failure of a skipped test where nothing may be missing: a sandbox, a server, a model, a header file."""
    if report.skipped and os.environ.get("ARPO_TESTS_SKIP_NOTHING"):
        report.outcome = "failed"
        report.longrepr = f"Skipped, although ARPO_TESTS_SKIP_NOTHING is set: {report.longrepr}"
    return report


@pytest.fixture
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what the command prints from being broken into lines in the middle of a sentence."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def smollm2_cache() -> Path:
    """Returns where SmolLM2 is kept converted, by this very code, for the tests of both environments and for the next run."""
    code = hashlib.sha256((ROOT / "algorithms" / "models" / "smollm2.py").read_bytes()).hexdigest()
    return ROOT / ".cache" / f"smollm2-{code[:12]}"


@pytest.fixture(scope="session")
def sample_plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Installs `sample_plugin/` into a folder of its own; returns the PYTHONPATH of processes that shall find it there."""
    source = tmp_path_factory.mktemp("source") / "sample_plugin"

    def install(target: Path) -> None:
        shutil.copytree(ROOT / "tests" / "sample_plugin", source)  # a build leaves files beside what it builds
        offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
        pip = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(source)]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return os.pathsep.join([str(made_once(tmp_path_factory, "site", install)), str(ROOT)])


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a policy that writes actions, often wrong ones, and knows nothing: two seconds of imitation."""
    return made_once(tmp_path_factory, "policy", _imitate)


def _imitate(folder: Path) -> None:
    from algorithms.checkpoint import save_policy
    from algorithms.cli.environments import env_maker
    from algorithms.models.embedded.cold_start import ColdStartConfig, build, cold_start
    from algorithms.rendering import TextRenderer

    make_env = env_maker("ARPO/SearchMini-v0", {"cities_per_country": 4})
    phases = {"echo_steps": 0, "drill_steps": 0, "imitation_steps": 25, "imitation_rate": 1e-2}
    size = ColdStartConfig(hidden=32, layers=1, heads=2, batch=16, lessons=100, **phases)
    model, tokenizer = build(make_env, size, seed=0)
    cold_start(make_env, model, tokenizer, TextRenderer(tokenizer, with_instructions=False), size, seed=0, report=_silent)
    save_policy(folder, model, tokenizer)
    (folder / "embedded.json").write_text('{"with_instructions": false}', encoding="utf-8")


def _silent(phase: str, done: int, total: int, accuracy: float) -> None:
    """Reports to nobody."""


@pytest.fixture(scope="session")
def finished(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a finished run of three steps, which nothing disturbed, for the tests of the command."""
    from test_cli_train import arguments

    from algorithms.cli import main

    def train(run: Path) -> None:
        assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", steps=3)) == 0

    return made_once(tmp_path_factory, "finished", train)
