"""`arpo bench hubs`: what is in its record; how long a step takes is not asserted."""

import json

import pytest

from algorithms.bench import hubs
from algorithms.cli import main
from arpo_envs import ConfigError


def test_times_and_ratios_of_the_hubs_that_are_installed(tmp_path, wide_terminal, capsys):
    file = tmp_path / "record.json"
    assert main(["bench", "hubs", "--rounds", "1", "--episodes", "1", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    absent = set(record.pop("absent").split(", ")) - {""}
    assert set(record) == {f"{name}_us" for name in hubs.LABELS if name not in absent} | {
        f"{name}_over_bare" for name in hubs.LABELS if name not in absent | {"bare"}
    }
    assert not absent & {"bare", "trl", "skyrl"}
    assert all(value > 0 for value in record.values())
    out = capsys.readouterr().out
    assert all(label in out for label in hubs.LABELS.values())


def test_without_a_hub_there_is_no_ratio_to_compare(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arpo_envs.hubs.skyrl", None)
    record = hubs.measure(hubs.HubsBench(rounds=1, episodes=1))
    assert "skyrl" in record["absent"]
    assert record["skyrl_over_bare"] is None
    assert hubs.table(record).row_count == len(hubs.LABELS)


def test_numbers_must_be_positive():
    with pytest.raises(ConfigError, match="rounds must be at least 1, got 0"):
        hubs.HubsBench(rounds=0)
