"""`arpo bench vector`: that all vector environments do the same work; how long it takes is not asserted."""

import json

import numpy as np
import pytest

from algorithms.bench import vector
from algorithms.bench.latency import workload
from algorithms.cli import main
from arpo_envs import ConfigError, ToolResult

NAMES = {"slowest_row_s", *(f"{part}{kind}_s" for part in ("", "instant_") for kind in ("sync", "async", "step", "free"))}


def test_all_times_and_ratios_are_in_the_record(tmp_path, wide_terminal, capsys):
    file = tmp_path / "record.json"
    assert main(["bench", "vector", "--rows", "2", "--rounds", "1", "--speed", "1e5", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert set(record) == NAMES | set(vector.BOUNDS)
    assert all(value > 0 for value in record.values())
    out = capsys.readouterr().out
    for shown in ("Gymnasium's async", "ours, send and recv", "free_over_slowest_row"):
        assert shown in out


def test_a_row_that_earned_nothing_is_noticed():
    work = workload("constant", paths=2, seed=0, speed=float("inf"))
    with pytest.raises(vector.DifferentWork, match="Every row should have earned 1"):
        vector._timed(vector.ForkableVectorEnv, lambda envs: np.array([1.0, 0.0]), work)


def test_both_ways_of_playing_make_every_call_once(monkeypatch):
    called: list[str] = []
    wait = vector.waiting_env(workload("constant", paths=3, seed=0, speed=float("inf"))).tools[0]
    monkeypatch.setattr(type(wait), "call", lambda self, name, arguments, timeout: _noted(called, arguments["place"]))
    work = workload("constant", paths=3, seed=0, speed=float("inf"))
    for play in (vector._step_by_step, vector._freely):
        called.clear()
        assert vector._timed(vector.ForkableVectorEnv, play, work) > 0
        assert sorted(called) == sorted(f"{row} {turn}" for row in range(3) for turn in range(vector.TURNS))


def _noted(called, place):
    called.append(place)
    return ToolResult("Done.")


@pytest.mark.parametrize("wrong", [{"rows": 1}, {"rounds": 0}, {"speed": 0.0}])
def test_useless_sizes_are_refused(wrong):
    with pytest.raises(ConfigError, match="rows must be at least 2"):
        vector.VectorBench(**wrong)
