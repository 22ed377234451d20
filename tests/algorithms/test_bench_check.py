"""`arpo bench --check`: it compares ratios only, a bound is missed if it is missed each time, and nothing passes silently."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from algorithms.bench import check
from algorithms.bench import env as env_bench
from algorithms.bench import text as text_bench
from algorithms.bench.bounds import Bound
from algorithms.bench.check import Benchmark
from algorithms.cli import main
from algorithms.cli.bench import BENCHMARKS
from arpo_envs import ArpoError
from arpo_envs.tools.python import SandboxUnavailable

pytestmark = pytest.mark.usefixtures("wide_terminal")


@dataclass(frozen=True)
class Sizes:
    """Measure what a test plants."""

    json: Path | None = None


BOUNDS = {"a_over_b": Bound("≤", 2.0), "c_share": Bound("≥", 0.5)}


def planted(*records: Mapping[str, Any] | Exception, **more: Any) -> tuple[Benchmark[Sizes], list[Any]]:
    """Returns a benchmark whose measurements are these, the last one for ever, and a list of all measurements made."""
    made: list[Any] = []

    def measure(config: Sizes, say: Callable[[str], None]) -> Mapping[str, Any]:
        made.append(records[min(len(made), len(records) - 1)])
        if isinstance(made[-1], Exception):
            raise made[-1]
        return made[-1]

    return Benchmark(Sizes, measure, lambda record: None, BOUNDS, check=Sizes(), **more), made


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Callable[[Benchmark[Sizes]], int]:
    """Returns what runs `arpo bench env --check` with another benchmark in its place."""

    def run(benchmark: Benchmark[Sizes]) -> int:
        monkeypatch.setattr(check, "load", lambda name: benchmark)
        return main(["bench", "env", "--check"])

    return run


def said(capsys: Any) -> str:
    return " ".join(capsys.readouterr().out.split())


# --- what is compared ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BENCHMARKS)
def test_only_ratios_are_compared_and_never_times(name: str) -> None:
    benchmark = check.load(name)
    assert benchmark.bounds
    assert benchmark.check_bounds.keys() <= benchmark.bounds.keys()
    assert isinstance(benchmark.check, benchmark.options)
    assert benchmark.options().json is None, "all sizes have defaults, so that `all` can run it"
    for ratio in benchmark.bounds:
        assert re.search(r"_over_|_growth$|^speedup_at_|_share$|_error$", ratio), ratio
        assert not re.search(r"(_|\b)(s|ms|us|ns|mb|seconds)$", ratio), ratio


def test_all_means_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(check, "compare_all", lambda names, console: asked.extend(names) or 0)
    assert main(["bench", "all", "--check"]) == 0
    assert asked == list(BENCHMARKS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["env", "--check", "--rounds", "1"], "--check has its own sizes and takes no other options."),
        (["all", "--rounds", "1"], "arpo bench all takes no option except --check."),
    ],
)
def test_options_that_would_have_no_effect_are_refused(words: list[str], says: str, capsys: Any) -> None:
    assert main(["bench", *words]) == 2
    assert says in capsys.readouterr().err


def test_help_says_what_a_check_does(capsys: Any) -> None:
    assert main(["bench"]) == 0
    text = said(capsys)
    assert "arpo bench all --check" in text
    assert "never times" in text
    assert "up to three times in all" in text


# --- what comes of it ----------------------------------------------------------------------------------------


def test_bounds_that_are_met_are_met_at_once(status: Any, capsys: Any) -> None:
    benchmark, made = planted({"a_over_b": 1.0, "c_share": 0.5})
    assert status(benchmark) == 0
    assert len(made) == 1
    assert "2 ratios compared" in said(capsys)


def test_a_bound_that_is_missed_each_time_is_named_and_gives_1(status: Any, capsys: Any) -> None:
    benchmark, made = planted({"a_over_b": 2.5, "c_share": 0.6})
    assert status(benchmark) == 1
    assert len(made) == check.MEASUREMENTS == 3
    text = said(capsys)
    assert "Missed: env a_over_b, 2.5 instead of ≤ 2, in each of 3 measurements." in text
    assert "Missed: env c_share" not in text


def test_a_disturbed_measurement_is_made_again_and_said_so(status: Any, capsys: Any) -> None:
    benchmark, made = planted({"a_over_b": 9.0, "c_share": 0.6}, {"a_over_b": 1.5, "c_share": 0.1})
    assert status(benchmark) == 0, "what was met once is not asked for again"
    assert len(made) == 2
    text = said(capsys)
    assert re.search(r"env a_over_b │ +1.5 │ +≤ 2 │ +met │ +2×", text)
    assert re.search(r"env c_share │ +0.6 │ +≥ 0.5 │ +met │ +1×", text)


def test_what_is_no_number_meets_nothing(status: Any) -> None:
    assert status(planted({"a_over_b": float("nan"), "c_share": 0.5})[0]) == 1


def test_small_sizes_may_have_bounds_of_their_own(status: Any) -> None:
    benchmark, _ = planted({"a_over_b": 2.5, "c_share": 0.6}, check_bounds={"a_over_b": Bound("≤", 3.0)})
    assert status(benchmark) == 0


def test_what_cannot_be_measured_here_is_named(status: Any, capsys: Any) -> None:
    benchmark, made = planted({"a_over_b": None, "c_share": 0.6, "absent": "dill"})
    assert status(benchmark) == 1
    assert len(made) == 1
    text = said(capsys)
    assert "Not compared: env a_over_b, for lack of dill." in text
    assert "1 ratio compared" in text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SandboxUnavailable("no namespaces"), "no namespaces"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "which needs torch."),
    ],
)
def test_a_benchmark_that_cannot_run_here_compares_nothing_and_says_why(
    error: Exception, reason: str, status: Any, capsys: Any
) -> None:
    assert status(planted(error)[0]) == 1
    text = said(capsys)
    assert "0 ratios compared" in text
    for ratio in BOUNDS:
        assert f"Not compared: env {ratio}, {reason}" in text


def test_a_benchmark_that_fails_gives_1_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    failing, healthy = planted(ArpoError("two schedulers, two results")), planted({"a_over_b": 1.0, "c_share": 0.5})
    monkeypatch.setattr(check, "load", lambda name: (failing if name == "start" else healthy)[0])
    assert main(["bench", "all", "--check"]) == 1
    text = said(capsys)
    assert "Failed: start, two schedulers, two results" in text
    assert f"{2 * (len(BENCHMARKS) - 1)} ratios compared" in text


def test_our_own_mistakes_are_not_taken_for_a_missing_package(status: Any) -> None:
    with pytest.raises(ModuleNotFoundError):
        status(planted(ModuleNotFoundError("No module named 'algorithms.nothing'", name="algorithms.nothing"))[0])
    with pytest.raises(KeyError, match="a_over_b"):
        status(planted({"c_share": 0.6})[0])


# --- real ones -----------------------------------------------------------------------------------------------


def test_an_environment_that_became_slow_is_found(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(env_bench, "_by_hand", lambda count: 10.0)
    monkeypatch.setattr(env_bench, "_episodes", lambda env, count: (60.0, 60.0, 60.0))
    assert main(["bench", "env", "--check"]) == 1
    assert "Missed: env per_call_over_by_hand, 6 instead of ≤ 5, in each of 3 measurements." in said(capsys)


def test_a_reader_that_became_quadratic_is_found(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def seconds(function: Callable[[str], object], text: str) -> float:
        return 1e-6 * len(text) ** (2 if text.startswith("{") else 1)

    monkeypatch.setattr(text_bench, "_seconds", seconds)
    assert main(["bench", "text", "--check"]) == 1
    text = said(capsys)
    assert "Missed: text parse_growth, 4 instead of ≤ 3" in text
    assert "Missed: text check_growth, 4 instead of ≤ 3" in text


@pytest.mark.parametrize(
    "words",
    [
        ["env", "--rounds", "1", "--episodes", "5", "--forks", "2"],
        ["start", "--repeats", "1"],
        ["text", "--length", "100", "--rounds", "1", "--calls", "2"],
        ["sharing", "--prompts", "2"],
    ],
)
def test_records_hold_what_is_compared(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    assert main(["bench", *words, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record.keys() >= check.load(words[0]).bounds.keys()
    assert not [name for name, value in record.items() if isinstance(value, dict | list)]
