"""Every protection of the interpreter is missed by some test when it is broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from apart import CHECKOUT
from mutant_list import MUTANTS
from turns import TURN

HERE = Path(__file__).resolve().parent


def test_every_mutant_can_be_made() -> None:
    for mutant in MUTANTS:
        count = (CHECKOUT / mutant.path).read_text(encoding="utf-8").count(mutant.old)
        assert count == 1, f"{mutant.file}: {mutant.old!r} is there {count} times"


def test_every_test_that_must_notice_exists() -> None:
    tests = sorted({test for mutant in MUTANTS for test in mutant.tests})
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "--collect-only", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--third", str(TURN % 3)], marks=pytest.mark.slow, id="every third"),
        pytest.param([], marks=pytest.mark.thorough, id="all"),
    ],
)
@pytest.mark.timeout(1800)
def test_no_mutant_survives(words: list[str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("root: the tests are not run as root")
    done = subprocess.run([sys.executable, str(HERE / "mutation.py"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
