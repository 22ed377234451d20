"""What all tests share; it also marks this folder as importable, so that they find `toys`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what the command prints from being broken into lines in the middle of a sentence."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def sample_plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Installs `sample_plugin/` into a folder of its own; returns the PYTHONPATH of processes that shall find it there."""
    source, target = tmp_path_factory.mktemp("source") / "sample_plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "tests" / "sample_plugin", source)  # a build leaves files beside what it builds
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return os.pathsep.join([str(target), str(ROOT)])


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a policy that writes actions, often wrong ones, and knows nothing: two seconds of imitation."""
    from algorithms.checkpoint import save_policy
    from algorithms.cli.config import env_maker
    from algorithms.embedded.cold_start import ColdStartConfig, build, cold_start
    from algorithms.rendering import TextRenderer

    make_env = env_maker("ARPO/SearchMini-v0", {"cities_per_country": 4})
    phases = {"echo_steps": 0, "drill_steps": 0, "imitation_steps": 25, "imitation_rate": 1e-2}
    size = ColdStartConfig(hidden=32, layers=1, heads=2, batch=16, lessons=100, **phases)
    model, tokenizer = build(make_env, size, seed=0)
    cold_start(make_env, model, tokenizer, TextRenderer(tokenizer, with_instructions=False), size, seed=0, report=_silent)
    folder = tmp_path_factory.mktemp("policy")
    save_policy(folder, model, tokenizer)
    (folder / "embedded.json").write_text('{"with_instructions": false}', encoding="utf-8")
    return folder


def _silent(phase: str, done: int, total: int, accuracy: float) -> None:
    """Reports to nobody."""
