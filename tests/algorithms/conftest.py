"""A run that the tests of the command compare theirs with."""

from pathlib import Path

import pytest
from made_once import made_once


@pytest.fixture(scope="session")
def finished(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a finished run of three steps, which nothing disturbed."""
    from test_cli_train import arguments

    from algorithms.cli import main

    def train(run: Path) -> None:
        assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", steps=3)) == 0

    return made_once(tmp_path_factory, "finished", train)
