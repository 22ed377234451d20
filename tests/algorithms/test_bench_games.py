"""`arpo bench games`: that all are measured, and what is not installed is named; how long it takes is not asserted."""

import importlib.util
import json

import pytest

from algorithms.bench import games
from algorithms.cli import main
from arpo_envs import ConfigError

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.mark.slow
def test_all_times_and_ratios_are_in_the_record(tmp_path, capsys):
    file = tmp_path / "record.json"
    assert main(["bench", "games", "--rounds", "1", "--steps", "2", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    absent = record.pop("absent").split(", ")
    assert record.pop("steps") == 2
    present = [hub for hub, package in games.PACKAGES.items() if package not in absent]
    times = ("bare_us", "copied_us", "replayed_us", "copied_fork_us", "replayed_fork_us", "replayed_over_bare")
    assert all(record[f"{hub}_{name}"] > 0 for hub in present for name in (*times, "copied_over_bare"))
    assert len(record) == 7 * len(present) + 3 - len(present)
    assert "textarena" in capsys.readouterr().out


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "games"]) == 0
    assert "Not installed: textarena, gem-llm, textworld." in " ".join(capsys.readouterr().out.split())


def test_numbers_must_be_positive():
    with pytest.raises(ConfigError, match="steps must be at least 1, got 0"):
        games.GamesBench(steps=0)
