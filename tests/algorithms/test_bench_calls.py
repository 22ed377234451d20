"""`arpo bench calls`: that all libraries do the same work; how long it takes is not asserted."""

import json
import sys

import pytest

from algorithms.bench import calls
from algorithms.cli import main
from arpo_envs import ConfigError

SMALL = calls.CallsBench(rounds=1, episodes=2, searches=2)
TIMES = {"ours_us", "gym_make_us", "gem_us", "skyrl_us"}
RATIOS = {"call_over_gem", "call_over_skyrl", "call_over_best"}


def test_all_times_and_ratios_are_in_the_record(tmp_path, wide_terminal, capsys):
    file = tmp_path / "record.json"
    words = ["--rounds", "1", "--episodes", "2", "--searches", "2", "--json", str(file)]
    assert main(["bench", "calls", *words]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert set(record) == TIMES | RATIOS | {"searches", "absent"}
    assert all(record[name] > 0 for name in TIMES | RATIOS)
    assert record["absent"] == ""
    out = capsys.readouterr().out
    for shown in ("ours, in gym.make", "GEM", "SkyRL-gym", "the quicker of these"):
        assert shown in out


def test_every_library_searches_as_often_as_it_is_asked_and_shows_everything():
    begins, absent = calls._libraries(6)
    assert not absent
    assert list(begins) == ["ours", "gym_make", "gem", "skyrl"]
    for name, begin in begins.items():
        for _ in range(2):
            step = begin()
            for _ in range(6):
                calls._require_passages(name, step(calls._ACTION))


@pytest.mark.parametrize(("package", "absent"), [("gem", "gem-llm"), ("skyrl_gym", "skyrl-gym")])
def test_without_one_of_them_there_is_no_ratio_to_compare(package, absent, monkeypatch, wide_terminal, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    record = calls.measure(SMALL)
    assert record["absent"] == absent
    assert record["call_over_best"] is None
    assert calls.table(record).row_count == 5


def test_less_than_all_passages_is_different_work():
    seen = calls._libraries(1)[0]["ours"]()(calls._ACTION)[0]
    calls._require_passages("ours", seen)
    for less in (seen.replace("Town 1", "Town"), seen[:-200], ""):
        with pytest.raises(calls.DifferentWork, match="ours should have shown all passages"):
            calls._require_passages("ours", less)


def test_numbers_must_be_positive():
    with pytest.raises(ConfigError, match="searches must be at least 1, got 0"):
        calls.CallsBench(searches=0)
