"""`arpo bench ahead`: that both ways play the same episodes; how long it takes is not asserted."""

import json
from pathlib import Path

import pytest

from algorithms.bench import ahead
from algorithms.cli import main
from arpo_envs import ConfigError


def test_the_record_is_flat_and_whole(tmp_path: Path, wide_terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    file, small = tmp_path / "record.json", ["--steps", "2", "--prompts", "1", "--rounds", "1", "--speed", "1e4"]
    assert main(["bench", "ahead", *small, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert set(record) == {"waiting_s", "ahead_s", "ideal_s", "update_s", "ahead_over_ideal", *ahead.BOUNDS}
    assert all(value > 0 for value in record.values())
    assert "collected with the newest weights" in capsys.readouterr().out


def test_useless_sizes_are_refused() -> None:
    for wrong in ({"steps": 1}, {"prompts": 0}, {"update": 0.0}, {"speed": 0.0}):
        with pytest.raises(ConfigError, match="must be"):
            ahead.AheadBench(**wrong)
