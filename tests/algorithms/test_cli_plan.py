"""`arpo plan` and its benchmarks: what they print, what they write, and what they refuse."""

import asyncio
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_cli_train import arguments

from algorithms.bench import machine as machine_bench
from algorithms.bench import plan as plan_bench
from algorithms.cli import main, plan
from algorithms.cli.config import TrainConfig
from algorithms.cli.placement import Placement
from algorithms.cli.planned import Finished
from algorithms.cluster.planning.machine import Machine
from arpo_envs import ConfigError

pytestmark = pytest.mark.usefixtures("wide_terminal")

H200 = Path(__file__).parents[2] / "docs" / "measurements" / "gpu-machine.json"
QUICK = ["--simulate", "1", "--prompts", "2", "--death-engines", "4"]


def planned(capsys: Any, tmp_path: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """Returns what a plan prints, and what it writes."""
    file = tmp_path / "plan.json"
    assert main(["plan", *words, "--json", str(file)]) == 0
    return " ".join(capsys.readouterr().out.split()), json.loads(file.read_text(encoding="utf-8"))


def test_a_plan_for_a_machine_that_is_not_here(tmp_path: Path, capsys: Any) -> None:
    text, record = planned(capsys, tmp_path, "--machine", str(H200), *QUICK, "--steps", "30", "--devices", "4", "--apart")
    assert "2 prompts × 16 rollouts, 8 from the prompt, forks after 50% of results" in text
    assert "constants of NVIDIA H200" in text
    assert "assumed, not measured: all other constants" in text
    assert "The bottleneck is" in text
    assert "The fastest ways to use 4 devices" in text
    assert "If 0.01 of 4 engines died per hour (0.0 deaths)" in text
    assert record["hours"] == pytest.approx(record["step seconds"] * 30 / 3600)
    assert record["device_hours"] == pytest.approx(2 * record["hours"])
    assert record["step seconds"] == pytest.approx(record["step rollout"] + record["step update"] + record["step load"])
    assert record["layout 1 seconds"] <= record["layout 2 seconds"]
    assert Machine.of(json.loads(H200.read_text(encoding="utf-8"))).row_seconds == record["constant row_seconds"]


def test_a_thousand_engines_of_which_one_in_a_hundred_dies_per_hour_are_as_the_page_says(tmp_path: Path, capsys: Any) -> None:
    page = " ".join((H200.parents[1] / "planning.md").read_text(encoding="utf-8").split())
    command = re.search(r"arpo plan --machine docs/measurements/gpu-machine\.json (--tool-latency .*?) ```", page)
    assert command is not None
    text, record = planned(capsys, tmp_path, "--machine", str(H200), *command.group(1).split())
    said = re.search(r"If 0\.01 of 1,000 engines died per hour \(10\.0 deaths\), .* with 1,000 trees\.", text)
    assert said is not None
    assert said.group() in page
    assert record["deaths engines"] == 1000
    assert record["deaths deaths_per_hour"] == pytest.approx(10.0)
    assert 0 < record["deaths slower"] < 0.01, "lost work is not what a run on a thousand engines has to fear"


def test_deaths_are_planned_for_fewer_engines_than_the_plan_has(tmp_path: Path, capsys: Any) -> None:
    few = ["--simulate", "1", "--prompts", "4", "--engines", "8", "--death-engines", "1"]
    text, _ = planned(capsys, tmp_path, "--machine", str(H200), *few)
    assert "If 0.01 of 1 engine died per hour" in text


def test_one_is_singular(tmp_path: Path, capsys: Any) -> None:
    one = ["--simulate", "1", "--prompts", "1", "--engines", "1", "--death-engines", "1"]
    text, _ = planned(capsys, tmp_path, "--machine", str(H200), *one)
    assert text.startswith("1 prompt × 16 rollouts")
    assert "s, with 1 tree." in text


def test_a_plan_from_a_run(finished: Path, tmp_path: Path, capsys: Any) -> None:
    config = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    words = ["--run", str(finished), "--simulate", "1", "--death-engines", "0"]
    text, record = planned(capsys, tmp_path, *words)
    assert f"{config['prompts']} prompts × {config['rollouts']} rollouts, {config['roots']} from the prompt" in text
    assert f"The run of {config['steps']} steps" in text
    assert "constants fitted to the steps of finished" in text
    assert "died" not in text
    _, slower = planned(capsys, tmp_path, *words, "--tool-latency", "60")
    assert slower["step rollout"] > record["step rollout"] + 60
    assert next(name for name in slower if name.startswith("gain ")) == "gain waiting for tools"


def test_a_run_on_a_cluster_is_planned_as_it_ran(finished: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    config = TrainConfig.load(run)
    placement = Placement(cluster="local", engines=3, learners=2, ahead=1)
    replace(config, placement=placement).save(run)
    layout = Finished.of(run).layout
    assert (layout.engines, layout.learners, layout.ahead, layout.shared) == (3, 2, 1, False)
    assert (layout.processes, layout.threads) == (3, Finished.of(finished).layout.threads)
    words = ["--run", str(run), "--machine", str(H200), "--simulate", "1", "--death-engines", "0"]
    text, record = planned(capsys, tmp_path, *words)
    assert "3 engines and 2 learners on 5 devices, rolling out one step ahead" in text
    assert record["step seconds"] == pytest.approx(max(record["step rollout"], record["step update"]) + record["step load"])
    assert plan._layout(plan.PlanConfig(run=(run,), engines=6), Finished.of(run)).processes == 6
    assert [plan._layout(plan.PlanConfig(run=(run,), engines=n), Finished.of(finished)).processes for n in (1, 6)] == [0, 6]
    text, _ = planned(capsys, tmp_path, *words, "--engines", "1", "--learners", "1", "--ahead", "0")
    assert "1 engine and 1 learner on 2 devices, one after the other" in text
    assert main(["plan", "--run", str(run), "--simulate", "1"]) == 2
    assert "constants are fitted to steps of one engine and one learner" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("placement", "processes"),
    [(Placement(ahead=1), 0), (Placement(cluster="local", engines=5, ahead=1), 5)],
)
def test_servers_are_engines_of_a_run_that_samples_from_them(placement: Placement, processes: int, tmp_path: Path) -> None:
    TrainConfig(policy="http://localhost:8000,http://localhost:8001", placement=placement).save(tmp_path)
    layout = Finished.of(tmp_path).layout
    assert (layout.engines, layout.processes, layout.ahead, layout.shared) == (2, processes, 1, False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_real_run_on_a_cluster_is_held_against_what_runs_in_one_process_foretell(
    finished: Path, tiny_policy: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "two"
    assert main(arguments(tiny_policy, run, "--threads", "1", "--cluster", "local", "--engines", "2", steps=2)) == 0
    capsys.readouterr()
    text, record = planned(capsys, tmp_path, "--run", str(finished), "--against", str(run), "--simulate", "1")
    assert f"Largest error: {abs(record['two: error']):.0%}." in text
    assert "its own" not in text, "the other run's paths are like those of this one"
    assert all(record[f"two: {part} {what}"] > 0 for part in ("rollout", "update") for what in ("predicted", "measured"))
    words = ["--machine", str(H200), "--run", str(run), "--simulate", "1", "--death-engines", "0"]
    text, _ = planned(capsys, tmp_path, *words)
    assert "2 engines and 1 learner on 3 devices, one after the other" in text


def test_a_finished_run_is_held_against_its_prediction(finished: Path, tmp_path: Path, capsys: Any) -> None:
    text, record = planned(capsys, tmp_path, "--run", str(finished), "--against", str(finished), "--simulate", "1")
    both = {
        what: record[f"finished: rollout {what}"] + record[f"finished: update {what}"] for what in ("predicted", "measured")
    }
    assert record["finished: error"] == pytest.approx(both["predicted"] / both["measured"] - 1.0)
    assert f"Largest error: {abs(record['finished: error']):.0%}." in text
    assert "its own" not in text
    text, _ = planned(capsys, tmp_path, "--machine", str(H200), "--against", str(finished), "--simulate", "1")
    assert "finished *" in text
    assert "The lengths of its paths are its own" in text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "give --run RUN, or --machine FILE"),
        (["--run", "."], "is not the folder of a run"),
        (["--machine", "nowhere.json"], "nowhere.json cannot be read"),
        (["--machine", "text.json"], "text.json is not JSON"),
        (["--machine", "list.json"], "must hold an object"),
        (["--machine", "other.json"], "Did you mean 'round_seconds'"),
        (["--run", ".", "--turns", "3"], "--turns would have no effect"),
        (["--machine", str(H200), "--steps", "0"], "steps must be at least 1"),
        (["--machine", str(H200), "--ahead", "1"], "devices of their own"),
        (["--machine", str(H200), "--devices", "1", "--engine-devices", "2", "--prompts", "1"], "1 devices are too few"),
    ],
)
def test_a_mistake_is_explained(words: list[str], hint: str, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("text", "no"), ("list", "[]"), ("other", '{"round_secs": 1}')):
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    try:
        status = main(["plan", *words])
    except SystemExit as end:  # the parser of the arguments ends the program itself
        status = end.code
    assert status == 2
    assert hint in " ".join(capsys.readouterr().err.split())


def test_a_run_without_a_step_says_so(finished: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    assert main(["plan", "--run", str(tmp_path)]) == 2
    assert "has taken no step yet" in " ".join(capsys.readouterr().err.split())


# --- benchmarks -------------------------------------------------------------------------------------------


def test_an_unknown_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match="There is no configuration 'more'"):
        plan_bench.PlanBench(cases=("more",))
    with pytest.raises(ConfigError, match="prompts differs between the configurations"):
        machine_bench.SMALL["arpo, 4 prompts"].having({"prompts": 3})


@pytest.mark.slow
def test_constants_are_measured_and_a_configuration_is_predicted(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    assert main(["bench", "machine", "--steps", "1", "--json", str(file)]) == 0
    assert Machine.of(json.loads(file.read_text(encoding="utf-8"))).load_seconds > 0
    record = plan_bench.measure(plan_bench.PlanBench(steps=1, cases=("arpo, 24 prompts × 16",)))
    assert record["arpo, 24 prompts × 16: rollout predicted"] > 0
    assert plan_bench.table(record).row_count == 2


def test_engines_whose_first_weights_do_not_arrive_are_closed(monkeypatch, tmp_path):
    closed = []

    async def assembled(*given, **options):
        return SimpleNamespace(policy=SimpleNamespace(load=fails), learner=SimpleNamespace(weights=dict), close=close)

    async def fails(weights, version):
        raise ConfigError("There is no engine.")

    async def close():
        closed.append(len(closed))

    monkeypatch.setattr(machine_bench, "assemble", assembled)
    monkeypatch.setattr(machine_bench, "starting_policy", lambda *given: None)
    cases = dict(list(machine_bench.SMALL.items())[:1])
    with pytest.raises(ConfigError, match="no engine"):
        asyncio.run(machine_bench.taken(cases, steps=1, threads=1, say=lambda what: None))
    assert closed == [0]
