"""`arpo bench weights`: what is measured and what is left out; how long it takes is not asserted."""

import json

import pytest

from algorithms.bench import weights
from algorithms.cli import main


def test_the_result_is_flat_and_what_needs_too_much_memory_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights, "_free", lambda: 3 << 30)
    file = tmp_path / "weights.json"
    words = ["--sizes", "1.4M", "1.5B", "--rounds", "1", "--transports", "in-process", "folder"]
    assert main(["bench", "weights", *words, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert not [name for name, value in record.items() if isinstance(value, dict | list)]
    times = {f"{way}_seconds_at_1.4M" for way in ("copy", "in_process", "folder", "probe")}
    assert all(record[name] > 0.0 for name in times)
    assert record["megabytes_at_1.4M"] == 4e-6 * record["parameters_at_1.4M"] == pytest.approx(5.6, abs=0.1)
    assert record["folder_megabytes_at_1.4M"] == pytest.approx(record["megabytes_at_1.4M"], rel=0.01)
    assert record["left_out_in-process_1.5B"] == "needs 9.2 GB of memory, and 3.2 are free"
    assert "left_out_folder_1.5B" in record
    assert "in-process, 1.5B, is left out: it needs 9.2 GB" in " ".join(capsys.readouterr().out.split())
    assert record["in_process_over_copy_at_135M"] is None


def measured(file, *transports):
    """Returns the record of one update through some transports."""
    words = ["--sizes", "1.4M", "--rounds", "1", "--transports", *transports]
    assert main(["bench", "weights", *words, "--json", str(file)]) == 0
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_engines_in_other_processes_are_given_weights_as_in_a_run(tmp_path, capsys):
    record = measured(tmp_path / "weights.json", "local", "ray")
    times = {name: value for name, value in record.items() if "_seconds_" in name}
    assert times.keys() == {"local_seconds_at_1.4M", "ray_seconds_at_1.4M"}
    assert min(times.values()) > 0.0
    shown = capsys.readouterr().out
    assert "--cluster local, s" in shown
    assert "--cluster ray, s" in shown


def test_without_ray_it_is_not_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    record = measured(tmp_path / "weights.json", "ray")
    assert record["ray_seconds_at_1.4M"] is None
    assert "--cluster ray" not in capsys.readouterr().out


def test_nothing_to_measure_is_refused():
    for nothing in ({"rounds": 0}, {"sizes": ()}, {"transports": ()}):
        with pytest.raises(weights.ConfigError, match="at least one"):
            weights.WeightsBench(**nothing)


def test_where_memory_is_not_told_everything_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "Path", lambda name: tmp_path / "nothing here")
    assert weights._free() is None
