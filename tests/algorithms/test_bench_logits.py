"""`arpo bench logits`: what is measured, and that an update which holds all logits would be seen."""

import json

import pytest

from algorithms.bench import logits
from algorithms.cli import main


@pytest.mark.slow
@pytest.mark.usefixtures("wide_terminal")
def test_the_result_is_flat_and_holding_all_logits_misses_the_bound(tmp_path, capsys):
    file = tmp_path / "logits.json"
    words = ["--vocabulary", "16384", "--tokens", "512", "--chunk", str(16384 * 512)]
    assert main(["bench", "logits", *words, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert (record["vocabulary"], record["tokens"]) == (16384, 512)
    assert record["whole_megabytes"] > 16384 * 512 * 4 / 1e6
    assert record["chunked_memory_over_whole"] == pytest.approx(1.0, abs=0.2)
    assert not [name for name, value in record.items() if isinstance(value, dict | list)]
    assert "≤ 0.5× missed" in capsys.readouterr().out


def test_a_missed_bound_looks_like_one():
    record = {"tokens": 512, "vocabulary": 16384, "chunked_memory_over_whole": 0.7}
    record |= {f"{way}_{what}": 1.0 for way in ("chunked", "whole") for what in ("megabytes", "seconds")}
    assert [str(cell) for cell in logits.table(record).columns[4].cells] == ["≤ 0.5× missed", ""]


def test_bad_sizes_are_refused():
    for size in ({"vocabulary": 32}, {"tokens": 255}, {"chunk": 0}, {"threads": 0}):
        with pytest.raises(logits.ConfigError, match="at least"):
            logits.LogitsBench(**size)
