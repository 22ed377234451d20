"""What the tests of the algorithms share."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

_savefig = Figure.savefig


@pytest.fixture(scope="session", autouse=True)
def quick_pictures() -> Iterator[None]:
    """Runs build the figure that they end with, but do not render it, which takes longer than a step of a tiny run."""

    def save(figure: Figure, file: Path, **options: Any) -> None:
        if Path(file).name == "training.png":
            Path(file).touch()
        else:
            _savefig(figure, file, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture(scope="session", autouse=True)
def forked_workers() -> Iterator[None]:
    """Forks workers from a process that has imported what they need: imports take longer than the rest of a tiny run.

    They see this process's environment as it was for the first of them. Runs in processes of their own start them as users' do.
    """
    get_temp_dir()  # the server's socket is in it, whose name would be too long where some tests put temporary files
    needed = ("algorithms.cli.elsewhere", "algorithms.cluster.rank", "transformers.models.llama.modeling_llama")
    multiprocessing.get_context("forkserver").set_forkserver_preload([*needed])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("algorithms.cluster.local._START", "forkserver")
        yield


@pytest.fixture
def real_pictures(quick_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renders every figure, in a test of what is drawn."""
    monkeypatch.setattr(Figure, "savefig", _savefig)
