"""`arpo bench pack`: that both ways compute the same update, and how it is shown; how long it takes is not asserted."""

import json

import pytest
import torch

from algorithms.bench import pack
from algorithms.cli import main

SMALL = ["--trees", "1", "--rounds", "1", "--width", "32", "--layers", "1", "--path", "64", "--vocabulary", "64"]
PER_RATIO = ("sharing_ratio", "speedup", "flat_seconds", "memory_ratio", "flat_megabytes", "path_tokens")


def test_the_result_is_flat_and_whole_and_the_gradient_is_the_same(tmp_path, capsys):
    file = tmp_path / "pack.json"
    assert main(["bench", "pack", *SMALL, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record.keys() >= {f"{name}_at_{ratio}" for name in PER_RATIO for ratio in pack.RATIOS}
    assert not [name for name, value in record.items() if isinstance(value, dict | list)]
    assert (record["device"], record["width"], record["layers"], record["attention"]) == ("cpu", 32, 1, "as-loaded")
    assert (record["path"], record["vocabulary"], record["dtype"]) == (64, 64, "float32")
    assert record["path_tokens_at_1.0"] == record["path_tokens_at_4.5"] == 16 * 64
    assert record["sharing_ratio_at_1.0"] == record["memory_ratio_at_1.0"] == 1.0
    assert 1.5 < record["sharing_ratio_at_2.0"] < record["sharing_ratio_at_3.0"] < record["sharing_ratio_at_4.5"] <= 4.6
    assert 0.0 < record["max_relative_gradient_error"] <= 1e-5
    assert "Largest gradient difference" in " ".join(capsys.readouterr().out.split())


def test_bad_sizes_are_refused():
    with pytest.raises(pack.ConfigError, match="at least 1"):
        pack.PackBench(trees=0)
    for size in ("width", "path", "vocabulary"):
        with pytest.raises(pack.ConfigError, match="width, path and vocabulary must be at least 32"):
            pack.PackBench(**{size: 16})


def test_in_bfloat16_the_gradient_is_the_same_up_to_its_rounding(tmp_path):
    file = tmp_path / "pack.json"
    assert main(["bench", "pack", *SMALL, "--dtype", "bfloat16", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["dtype"] == "bfloat16"
    assert 1e-5 < record["max_relative_gradient_error"] < 1.0


def test_a_missed_bound_looks_like_one():
    record = {f"{name}_at_{ratio}": 3.2 for name in PER_RATIO for ratio in pack.RATIOS}
    record |= {
        "speedup_at_1.0": 0.93,
        "device": "cpu",
        "width": 32,
        "layers": 1,
        "path": 64,
        "dtype": "float32",
        "max_relative_gradient_error": 1e-7,
    }
    _, _, _, speedups, bounds, _ = (list(column.cells) for column in pack.table(record).columns)
    assert [cell.plain for cell in bounds] == ["≥ 0.95× missed", "≥ 0.95×", "≥ 1.4×", "≥ 2.1×", "≥ 3.15×"]
    assert [cell.plain for cell in speedups] == ["0.93×", *["3.20×"] * 4]
    assert [("red" in str(cell.style)) for cell in speedups] == [True, *[False] * 4]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("bench", [["pack"], ["rollout"], ["sharing", "--policy", "nowhere"]])
@pytest.mark.parametrize(("device", "says"), [("cuda", "torch sees no CUDA device"), ("banana", "Unknown --device 'banana'")])
def test_a_device_that_is_not_there_is_explained(bench, device, says, capsys):
    assert main(["bench", *bench, "--device", device]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
