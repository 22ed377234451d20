"""`arpo bench hubs`: what is in its record; how long a step takes is not asserted."""

import json
import sys
from pathlib import Path

import pytest

from algorithms.bench import hubs
from algorithms.cli import main
from arpo_envs import ConfigError, ToolFault


def environment(folder: Path, command: str) -> Path:
    """Makes a folder whose Python is a command of a shell."""
    (folder / "bin").mkdir()
    (python := folder / "bin" / "python").write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    python.chmod(0o755)
    return folder


def test_times_and_ratios_of_the_hubs_that_are_installed(tmp_path, wide_terminal, capsys):
    file = tmp_path / "record.json"
    games = {"textarena_copied", "players_copied", "seat_copied", "seat_replayed"}
    chosen = ["--hubs", "trl", "skyrl", *sorted(games), "mcp", "--environment", str(tmp_path)]
    assert main(["bench", "hubs", "--rounds", "1", "--episodes", "1", "--json", str(file), *chosen]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    absent = set(record.pop("absent").split(", ")) - {""}
    assert absent <= games | {"mcp"}
    present = ({"trl", "skyrl", "mcp"} | games) - absent
    assert set(record) == {f"{name}_{what}" for name in present for what in ("us", "bare_us", "over_bare")}
    assert record["trl_bare_us"] == record["skyrl_bare_us"]
    assert all(value > 0 for value in record.values())
    out = capsys.readouterr().out
    assert all(label in out for label in hubs.LABELS.values())


def test_what_is_not_installed_here_plays_in_another_environment(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "arpo_envs.hubs.skyrl", None)
    there = environment(tmp_path, f'exec "{sys.executable}" "$@"')
    record = hubs.measure(hubs.HubsBench(rounds=1, episodes=1, hubs=("trl", "skyrl"), environment=there))
    assert record["absent"] == ""
    assert record["skyrl_bare_us"] != record["trl_bare_us"]  # each beside its own
    assert hubs.table(record).row_count == len(hubs.LABELS)


def test_without_a_hub_there_is_no_ratio_to_compare(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "arpo_envs.hubs.skyrl", None)
    record = hubs.measure(hubs.HubsBench(rounds=1, episodes=1, hubs=("skyrl",), environment=tmp_path))
    assert record == {"trl_over_bare": None, "skyrl_over_bare": None, "absent": "skyrl"}
    assert hubs.table(record).row_count == len(hubs.LABELS)


def test_an_environment_that_is_broken_is_named_with_its_last_words(tmp_path):
    broken = environment(tmp_path, "echo 'No module named msgspec' >&2; exit 1")
    with pytest.raises(ToolFault, match=r"bin/python failed to play in other hubs: No module named msgspec"):
        hubs.measure(hubs.HubsBench(rounds=1, episodes=1, hubs=("openenv",), environment=broken))


def test_numbers_and_names_are_checked():
    with pytest.raises(ConfigError, match="rounds must be at least 1, got 0"):
        hubs.HubsBench(rounds=0)
    with pytest.raises(ConfigError, match="Did you mean 'skyrl'"):
        hubs.HubsBench(hubs=("skyrll",))
