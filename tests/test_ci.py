"""What `.ci/run` relies on: a skipped test is a failure there, and only there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

SKIPPED = {
    "by a mark": "import pytest\n@pytest.mark.skip(reason='gone')\ndef test_it(): ...\n",
    "while it runs": "import pytest\ndef test_it(): pytest.skip('gone')\n",
    "while it is set up": "import pytest\n@pytest.fixture\ndef it(): pytest.skip('gone')\ndef test_it(it): ...\n",
    "with its file": "import pytest\npytest.importorskip('gone_for_good')\ndef test_it(): ...\n",
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case == "by a mark" else pytest.mark.slow) for case in SKIPPED]
)
def test_a_skipped_test_fails_where_nothing_may_be_missing(case: str, tmp_path: Path) -> None:
    (tmp_path / "test_skipped.py").write_text(SKIPPED[case], encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "conftest",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    own = {name: value for name, value in os.environ.items() if name != "ARPO_TESTS_SKIP_NOTHING"}
    own["PYTHONPATH"] = str(ROOT / "tests")
    for more, code in (({}, {0, 5}), ({"ARPO_TESTS_SKIP_NOTHING": "1"}, {1, 2})):
        done = subprocess.run(command, env=own | more, capture_output=True, text=True, check=False)
        assert done.returncode in code, done.stdout
    assert "gone" in done.stdout


def test_ci_skips_nothing() -> None:
    assert "export ARPO_TESTS_SKIP_NOTHING=1\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("minutes", "left", "share"), [(6, 50, 1), (8, 48, 1), (12, 40, 2), (18, 30, 6), (25, 20, 13), (40, -10, 20)]
)
def test_on_a_slow_machine_ci_has_time_for_one_file_in_so_many(minutes: int, left: int, share: int) -> None:
    told = [str(60 * minutes), str(60 * left)]
    assert int(subprocess.run([ROOT / ".ci" / "share", *told], check=True, capture_output=True).stdout) == share
