"""`arpo bench gpu` without a GPU: measures run at toy sizes, faults break their laws, and none costs another's numbers."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from algorithms.bench.gpu import GpuBench, gradients, run, suite, updates, weights, worker
from algorithms.bench.gpu.measures import MEASURES, Measure, Setting, Skipped
from algorithms.bench.gpu.pytests import counted, passed
from algorithms.cli import main
from algorithms.learner import torch_learner
from algorithms.policies.local import LocalPolicy
from arpo_envs import ConfigError

TOY = Setting("cpu", "toy")
BY_NAME = {measure.name: measure for measure in MEASURES}
HERE = ("gradients, SDPA, bfloat16", "weights in process", "local engine", "update, 0.1B, SDPA")
"""What runs on a CPU, and without vLLM; larger updates have the same toy, and the command measures gradients in float32."""


def entry(name: str) -> dict[str, Any]:
    return dict(worker.entry(BY_NAME[name], TOY))


# --- the measures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HERE)
def test_a_measure_gives_numbers_on_a_cpu(name: str) -> None:
    found = entry(name)
    assert found.pop("outcome") == "measured", found
    numbers = {key: value for key, value in found.items() if isinstance(value, float | int)}
    assert len(numbers) >= 4
    assert all(value > 0.0 for key, value in numbers.items() if key != "seconds"), found


@pytest.mark.parametrize("name", [name for name in BY_NAME if "Flex" in name or name in ("tests", "sleep and wake", "vLLM")])
def test_what_is_missing_here_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algorithms.bench.gpu.options.has_vllm", lambda: False)
    found = entry(name)
    assert found["outcome"] == "skipped"
    assert any(word in found["reason"] for word in ("FlexAttention has no backward pass on cpu", "vLLM is not", "--tests"))


@pytest.mark.parametrize("name", ["sleep and wake", "weights by IPC"])
def test_what_no_cpu_can_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algorithms.bench.gpu.options.has_vllm", lambda: True)
    assert entry(name)["outcome"] == "skipped"
    assert entry(name)["reason"].endswith("on cpu")


def test_every_measure_has_a_function_and_groups_lie_together() -> None:
    groups = [measure.group for measure in MEASURES]
    assert groups == sorted(groups, key=groups.index)
    assert len(BY_NAME) == len(MEASURES)
    for measure in MEASURES:
        home, _, function = measure.home.partition(":")
        assert (Path(suite.__file__).parent / f"{home}.py").read_text(encoding="utf-8").count(f"\ndef {function}(") == 1


def test_models_have_the_sizes_that_they_are_named_after() -> None:
    for size in updates.SIZES:
        config = updates.sized(Setting("cpu", "full"), size, "as-loaded")
        assert updates.parameters(config) == pytest.approx(1e9 * float(size.removesuffix("B")), rel=0.25)


# --- planted faults ------------------------------------------------------------------------------------------


def test_a_wrong_gradient_of_packed_trees_breaks_its_law(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch_learner.score

    def score(scorer: Any, batch: Any, *rest: Any, **options: Any) -> Any:
        """Computes what it should, with 1% less of the gradient."""
        scored = real(scorer, batch, *rest, **options)
        share = 0.99 if batch.tree else 1.0
        return scored._replace(logp_BT=share * scored.logp_BT + (1.0 - share) * scored.logp_BT.detach())

    monkeypatch.setattr(torch_learner, "score", score)
    found = entry("gradients, SDPA, float32")
    assert (found["outcome"], found["packed_over_flat"] > 1000.0) == ("broken", True), found
    assert found["reason"].startswith("the packed gradient of ")


def test_trees_that_are_not_packed_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "RATIO", 1.2)
    found = entry("gradients, SDPA, float32")
    assert (found["outcome"], found["reason"], found["sharing_ratio"]) == ("broken", "nothing was packed", 1.0)


def test_an_update_that_changes_nothing_breaks_its_law(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: LocalPolicy, weights: Any, version: int) -> None:
        self.version = version

    monkeypatch.setattr(LocalPolicy, "load", nothing)
    found = entry("weights in process")
    assert found["outcome"] == "broken"
    assert "does not draw with the learner's weights of step 3: it still draws with those of step 0" in found["reason"]
    assert found["update_seconds"] > 0.0, "what was measured is kept"


def test_a_probe_that_cannot_tell_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "nudge", lambda model, seed: None)
    monkeypatch.setattr("algorithms.models.agreement.probe.WeightProbe._strange", lambda self: None)
    assert entry("weights in process")["reason"] == "the probe cannot tell whether the weights arrived"


# --- what a measure may raise --------------------------------------------------------------------------------


def hidden(message: str, of: str) -> ModuleNotFoundError:
    """Returns an error as transformers raises it."""
    error = ModuleNotFoundError(message)
    error.__cause__ = ModuleNotFoundError(f"No module named {of!r}", name=of)
    return error


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's."""


@pytest.mark.parametrize(
    ("error", "outcome", "says"),
    [
        (Skipped("no card"), "skipped", "no card"),
        (ModuleNotFoundError("No module named 'a'", name="a.b"), "skipped", "a.b is not installed"),
        (hidden("Could not import module 'LlamaModel'", of="a.b"), "skipped", "a.b is not installed"),
        (ImportError("cannot import name 'x' from 'torch'", name="torch"), "failed", "ImportError: cannot import name 'x'"),
        (ModuleNotFoundError("No module named 'algorithms.x'", name="algorithms.x"), "failed", "ModuleNotFoundError: No"),
        (OutOfMemoryError("CUDA out of memory. Tried\nmore"), "skipped", "too little memory on the device: OutOfMemoryError"),
        (ValueError("three\nlines\nlong"), "failed", "ValueError: three"),
    ],
)
def test_what_is_raised_is_an_outcome(error: Exception, outcome: str, says: str, monkeypatch: Any, capsys: Any) -> None:
    def raising(self: Measure, setting: Setting) -> None:
        raise error

    monkeypatch.setattr(Measure, "run", raising)
    found = entry("vLLM")
    assert found["outcome"] == outcome
    assert found["reason"].startswith(says)
    assert "\n" not in found["reason"]
    assert ("Traceback" in capsys.readouterr().err) == (outcome == "failed")


# --- the suite -----------------------------------------------------------------------------------------------

WORKER = """
import json, os, sys, time
say = lambda **line: print(json.dumps(line), flush=True)
say(python="3", device="A card")
for name in sys.argv[2:]:
    BEFORE
    say(outcome="measured", seconds=1.0, speed=7.0)
"""
NAMES = [measure.name for measure in MEASURES if measure.name.startswith("update")]
Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def suite_of(tmp_path: Path) -> Run:
    """Returns what runs updates with a worker that does something before each entry; gives status, record and output."""

    def run_it(code: str, **options: Any) -> tuple[int, dict[str, Any], str]:
        script, file = tmp_path / "worker.py", tmp_path / "gpu.json"
        script.write_text(WORKER.replace("BEFORE", code), encoding="utf-8")
        console = Console(file=StringIO(), width=300)
        status = run(GpuBench(json=file, **{"only": ("update",), **options}), console, (sys.executable, str(script)))
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"measures": {}}
        return status, record, console.file.getvalue()  # type: ignore[attr-defined]

    return run_it


def test_all_is_recorded_with_the_devices_name(suite_of: Run) -> None:
    status, record, said = suite_of("pass")
    assert status == 0
    assert record["device"] == "A card"
    assert record["measures"] == {name: {"outcome": "measured", "seconds": 1.0, "speed": 7.0} for name in NAMES}
    assert "6 measured, 0 skipped, 0 broken, 0 failed" in said


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        ("name == NAME and os.abort()", "failed", "its process ended, see above"),
        ("name == NAME and time.sleep(600)", "failed", "not done after 1 s"),
        ("if name == NAME: say(outcome='broken', seconds=0.1, reason='off'); continue", "broken", "off"),
    ],
)
def test_what_breaks_a_measure_breaks_no_other(code: str, outcome: str, reason: str, suite_of: Run, monkeypatch: Any) -> None:
    quick = tuple(replace(measure, seconds=1.0 if measure.name == NAMES[2] else 60.0) for measure in MEASURES)
    monkeypatch.setattr(suite, "MEASURES", quick)
    status, record, _ = suite_of(code.replace("NAME", repr(NAMES[2])))
    assert status == 1
    assert record["measures"][NAMES[2]].items() >= {"outcome": outcome, "reason": reason}.items()
    assert [record["measures"][name]["outcome"] for name in NAMES if name != NAMES[2]] == ["measured"] * 5


def test_what_does_not_fit_into_the_time_is_named(suite_of: Run) -> None:
    status, record, _ = suite_of(f"name == {NAMES[1]!r} and time.sleep(600)", seconds=2.0)
    assert status == 0, "nothing is wrong"
    reasons = [record["measures"][name].get("reason") for name in NAMES]
    assert reasons == [None, *["out of time"] * 5]


def test_a_machine_without_the_device_keeps_the_record_it_has(suite_of: Run, tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text('{"kept": 1}', encoding="utf-8")
    status, record, said = suite_of("say(absent='no CUDA'); break")
    assert (status, record) == (1, {"kept": 1})
    assert said.count("no CUDA") == 6


def test_a_process_that_ends_each_time_fails_each(suite_of: Run) -> None:
    status, record, _ = suite_of("raise SystemExit(3)", only=tuple(NAMES[:2]))
    assert status == 1
    assert {one["reason"] for one in record["measures"].values()} == {"its process ended, see above"}


def test_names_are_checked_and_so_is_the_time() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'vLLM'"):
        run(GpuBench(only=("vLMM",)), Console(file=StringIO()))
    with pytest.raises(ConfigError, match="above 0"):
        GpuBench(seconds=0.0)


def test_the_command_measures_in_its_own_process(tmp_path: Path, capfd: Any) -> None:
    words = ["--device", "cpu", "--sizes", "toy", "--only", "gradients, SDPA, float32"]
    assert main(["bench", "gpu", *words, "--json", str(tmp_path / "gpu.json")]) == 0
    record = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert (record["device"], record["sizes"]) == ("cpu", "toy")
    assert list(record["measures"]) == ["gradients, SDPA, float32"]
    assert 0.0 < record["measures"]["gradients, SDPA, float32"]["packed_relative_error"] < 1e-5


# --- tests that pytest runs ----------------------------------------------------------------------------------


def test_tests_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "test_card.py"
    file.write_text(
        "import pytest\npytestmark = pytest.mark.cuda\ndef test_one(): ...\n@pytest.mark.skip\ndef test_other(): ...\n",
        encoding="utf-8",
    )
    assert passed(replace(TOY, tests=str(file))) == {"passed": 1, "failed": 0, "skipped": 1}


@pytest.mark.parametrize(
    ("cases", "says"),
    [
        ("<testcase name='a'/><testcase name='b'><failure/></testcase>", "failed: b"),
        ("<testcase name='a'><skipped/></testcase>", "no test ran"),
        ("", "no test ran"),
        ("<testcase><error>ModuleNotFoundError: No module named 'zstandard'</error></testcase>", "the tests need zstandard"),
    ],
)
def test_tests_that_show_nothing_are_told_apart(cases: str, says: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(Measure, "run", lambda self, setting: counted(list(ElementTree.fromstring(f"<all>{cases}</all>"))))
    found = entry("tests")
    assert found["reason"] == says
    assert found["outcome"] == ("skipped" if "need" in says else "broken")


@pytest.mark.parametrize(
    ("device", "visible", "now", "left"),
    [
        ("cuda:1", "", "cuda", "1"),
        ("cuda:1", "4,6", "cuda", "6"),
        ("cuda", "4,6", "cuda", "4,6"),
        ("cpu", "4,6", "cpu", "4,6"),
    ],
)
def test_one_of_several_gpus_is_the_only_one_that_engines_see(
    device: str, visible: str, now: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert worker.alone(Setting(device)).device == now
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
