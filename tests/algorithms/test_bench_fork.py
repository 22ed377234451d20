"""`arpo bench fork`: the shape of its result, with small sizes; how long anything takes is not asserted."""

import json

import pytest

from algorithms.bench import alternatives, fork
from algorithms.bench.bounds import Bound
from algorithms.cli import main

SMALL = ["--rounds", "1", "--forks", "2", "--repeats", "1", "--array-mb", "1", "--objects-mb", "1", "--clones", "2"]
CELLS = {"cell_over_bare_fork", "cell_p99_over_bare_fork"}
RATIOS = {"clone_over_bare_fork", "fresh_interpreter_over_clone", "dill_1mb_over_clone", "clone_private_share"} | CELLS


def test_the_result_is_flat_and_whole_and_what_is_absent_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(alternatives.importlib.util, "find_spec", lambda name: None)
    file = tmp_path / "fork.json"
    assert main(["bench", "fork", *SMALL, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record.keys() >= RATIOS | {"session_start_ms", "exec_round_trip_ms", "clone_small_ms", "bare_fork_ms", "live_clones"}
    assert not [name for name, value in record.items() if isinstance(value, dict | list)]
    assert (record["absent"], record["dill_1mb_over_clone"], record["live_clones"]) == ("dill, ipykernel", None, 2)
    assert "Absent: dill, ipykernel" in capsys.readouterr().out


def test_bad_sizes_are_refused():
    with pytest.raises(fork.ConfigError, match="clones must be at least 1"):
        fork.ForkBench(clones=0)


def test_bounds():
    met = {relation: [Bound(relation, 2.0).met(value) for value in (1.0, 2.0, 3.0)] for relation in ("≥", "≤", "<")}
    assert met == {"≥": [False, True, True], "≤": [True, True, False], "<": [True, False, False]}


def test_missed_bounds_look_like_some():
    record = dict.fromkeys(
        [
            "server_start_ms", "session_start_ms", "exec_round_trip_ms", "clone_small_ms", "clone_200mb_array_ms",
            "clone_500mb_objects_ms", "bare_fork_ms", "fresh_interpreter_ms", "dill_200mb_dump_ms", "dill_200mb_load_ms",
            "ipykernel_start_ms", "ipykernel_imports_ms", "live_clones", "processors", "load_average_before",
            "cell_ms", "cell_p99_ms", "cell_over_bare_fork", "cell_p99_over_bare_fork",
        ], 1.0,
    )  # fmt: skip
    record |= {"clone_over_bare_fork": 4.5, "fresh_interpreter_over_clone": 31.0, "dill_200mb_over_clone": None}
    shown = fork.table(record | {"clone_private_share": 0.05, "clone_private_mb": 3.0, "absent": "dill"})
    last = [str(cell) for cell in shown.columns[2].cells][-7:]
    assert last == ["≤ 3 missed", "≤ 1", "≤ 2.5", "≥ 30", "", "≤ 0.04 missed", "< 3 missed"]
