"""`arpo new env`: what it writes works at once, is clean, and is found by its id."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from algorithms.cli import main
from algorithms.cli.new import write
from arpo_envs import ConfigError

ROOT = Path(__file__).parents[2]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    paths = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, env=paths, capture_output=True, text=True, check=False)


def test_what_is_written_passes_its_own_tests_and_every_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "env", "Price-Lists", "--folder", str(tmp_path)]) == 0
    assert "arpo play PriceLists/Guess-v0" in capsys.readouterr().out
    project = tmp_path / "price-lists"
    tested = run(["pytest", "-q", "-W", "error", "-p", "no:cacheprovider"], project)
    assert tested.returncode == 0, tested.stdout
    lint = run(["ruff", "check", "--isolated", "--line-length", "128", "--select", "E,F,W,UP,B,SIM,C4,RUF", "."], project)
    assert lint.returncode == 0, lint.stdout
    shape = run(["ruff", "format", "--isolated", "--line-length", "128", "--check", "."], project)
    assert shape.returncode == 0, shape.stdout
    written = [path.read_text(encoding="utf-8") for path in project.rglob("*") if path.is_file() and "cache" not in str(path)]
    assert not any(word in text for word in ("PROJECT", "PACKAGE", "CLASS", "ENV_ID") for text in written)


@pytest.mark.slow
def test_it_is_found_once_it_is_installed(tmp_path: Path) -> None:
    project = write("price-lists", tmp_path)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    site = tmp_path / "site"
    installed = run(["pip", "install", *offline, "--target", str(site), str(project)], tmp_path)
    assert installed.returncode == 0, installed.stderr
    shown = run(["algorithms.cli", "envs", "PriceLists/Guess-v0"], site)
    assert "higher or lower" in shown.stdout
    typed = run(["mypy", "--strict", "--cache-dir", str(tmp_path / "mypy"), "price_lists", "tests"], project)
    assert typed.returncode == 0, typed.stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("3d-maze", "cannot be the name of a Python package"),
        ("été", "cannot be the name of a Python package"),
        ("class", "cannot be the name of a Python package"),
        ("../up", "cannot be the name of a Python package"),
        ("", "cannot be the name of a Python package"),
        ("json", "exists already"),
        ("arpo-envs", "exists already"),
        ("___", "cannot be the name of a Python package"),
        ("numpy", "exists already"),
    ],
)
def test_names_that_do_not_do(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=hint):
        write(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_stands_around_a_name_is_left_out(tmp_path: Path) -> None:
    assert write(" _Maze-", tmp_path) == tmp_path / "maze"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write("maze", tmp_path)
    with pytest.raises(ConfigError, match="exists already"):
        write("maze", tmp_path)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot be written"):
        write("maze", tmp_path / "file")
