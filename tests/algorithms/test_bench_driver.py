"""`arpo bench driver`: what is measured, and that a copy of the weights in the main process would be seen."""

import json
import subprocess
import sys

import pytest

from algorithms.bench import driver
from algorithms.cli import main


@pytest.mark.slow
def test_the_result_is_flat_and_the_table_names_each_model(tmp_path, capsys):
    file = tmp_path / "driver.json"
    words = ["--sizes", "1.4M", "--prompts", "2", "--rollouts", "2", "--engines", "1"]
    assert main(["bench", "driver", *words, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["paths"] == 4
    assert record["driver_memory_growth"] == 1.0
    assert record["model_megabytes_at_1.4M"] == pytest.approx(5.6, abs=0.1)
    assert record["driver_megabytes_at_1.4M"] > 10 * record["model_megabytes_at_1.4M"]
    assert record["driver_seconds_at_1.4M"] > 0
    assert 0 < record["tree_bytes"] < record["tree_bytes_alone"] < 12 * record["tree_tokens"]
    shown = capsys.readouterr().out
    assert "1.4M" in shown
    assert "135M" not in shown


HELD = """
import numpy as np
from algorithms.bench.memory import most_held
before = most_held()
copied = np.ones(200 << 17).nbytes
print(most_held() - before, copied)
"""


def test_what_was_held_for_a_moment_counts():
    """In a process that has held little before."""
    more, copied = map(int, subprocess.check_output([sys.executable, "-c", HELD], text=True).split())
    assert more >= 0.9 * copied


def test_nothing_to_measure_is_refused():
    for nothing in ({"prompts": 0}, {"engines": 0}, {"rollouts": 1}, {"sizes": ()}):
        with pytest.raises(driver.ConfigError, match="at least"):
            driver.DriverBench(**nothing)
