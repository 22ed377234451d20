"""The pages say what is in the measurements kept in `docs/measurements/`.

This is evidence of the pages alone. That today's code still reaches what was measured is shown by measuring again:
`arpo bench all --check` for costs and savings, and the slow tests for training.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import pytest
from pages import ROOT

from algorithms.bench.pack import RATIOS
from algorithms.cli.bench import BENCHMARKS, GPU
from algorithms.cli.compare import CompareConfig
from algorithms.cli.compare_words import sentence
from algorithms.cli.study import ARMS, insert, markdown
from algorithms.evaluation import Contrast

RECORDS = ROOT / "docs" / "measurements"
QUOTED = {
    "study": "README.md",
    "compare": "README.md",
    "python": "docs/python-environment.md",
    "browser-train": "docs/browser-environment.md",
    "deep-search-train": "docs/deep-search-environment.md",
    "cold-start": "docs/cold-start.md",
    "smollm2-train": "docs/cold-start.md",
    "smollm2-hops": "docs/cold-start.md",
    "smollm2-benchmarks": "docs/evaluation.md",
    "gpu-train": "docs/training.md",
    "gpu-pack": "docs/training.md",
    "gpu-sharing": "docs/training.md",
    "gpu-agreement": "docs/models.md",
    "gpu-machine": "docs/planning.md",
    "plan": "docs/planning.md",
    "hubs": "docs/hubs.md",
    "ahead": "docs/many-machines.md",
    "ahead-curves": "docs/many-machines.md",
    "page": "docs/training.md",
    "entropy": "docs/training.md",
    "weights": "docs/training.md",
    "driver": "docs/many-machines.md",
}
"""Records of runs, and the pages that quote them; the others are what benchmarks wrote, and no page quotes them."""
STUDENT_T = 4.303
"""Two-sided 95% quantile with two degrees of freedom, which three seeds leave."""
Record = Mapping[str, Any]


def kept(name: str) -> Any:
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def arm(record: str, name: str) -> list[Record]:
    """Returns the runs of one arm, which has three seeds."""
    runs = [summary for summary in kept(record) if summary["algorithm"] == name]
    assert sorted(run["seed"] for run in runs) == [1, 2, 3]
    return runs


def spread(runs: Sequence[Record], key: str) -> str:
    """Returns how a page writes the mean over seeds, and the lowest and highest."""
    values = [run[key] for run in runs]
    return f"{mean(values):.3f} ({min(values):.3f} – {max(values):.3f})"


def calls(runs: Sequence[Record], kind: str) -> float:
    """Returns the mean over seeds of tool calls per prompt."""
    return mean(run[f"{kind}_tool_calls_per_prompt"] for run in runs)


def test_every_record_is_quoted_or_that_of_a_benchmark() -> None:
    names = {path.stem for path in RECORDS.glob("*.json")}
    assert names <= QUOTED.keys() | BENCHMARKS.keys() | {GPU}
    assert names >= QUOTED.keys()
    every = [page(str(path.relative_to(ROOT))) for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]]
    linked = {name for text in every for name in re.findall(r"measurements/([\w-]+)\.json", text)}
    assert linked == QUOTED.keys(), "a page that quotes another record is to be held to it here"


# --- README ------------------------------------------------------------------------------------------------


def test_the_readme_shows_the_study_that_is_kept() -> None:
    text = page("README.md")
    assert {run["algorithm"] for run in kept("study")} == set(ARMS)
    assert text == insert(text, markdown(kept("study")))


def test_nothing_is_learned_from_shuffled_rewards() -> None:
    for run in arm("study", "arpo-shuffled"):
        for how in ("sampled", "greedy"):
            drift = abs(run[f"success_after_{how}"] - run[f"success_before_{how}"])
            assert round(drift, 9) <= 0.05, f"seed {run['seed']}, {how}"


def test_a_third_fewer_tool_calls_is_what_the_study_measured() -> None:
    assert "the same success with a third fewer tool calls than GRPO" in page("README.md").replace("\n", " ")
    branching, grpo = arm("study", "arpo"), arm("study", "grpo")
    assert calls(branching, "executed") / calls(grpo, "executed") == pytest.approx(2 / 3, abs=0.03)
    for how in ("sampled", "greedy"):
        after = f"success_after_{how}"
        assert mean(run[after] for run in branching) == pytest.approx(mean(run[after] for run in grpo), abs=0.01)


@pytest.mark.parametrize("measure", ["success", "reward_by_calls", "reward_by_seconds"])
def test_the_readme_says_what_the_comparison_found(measure: str) -> None:
    record, said = kept("compare"), page("README.md").splitlines()
    assert f"arpo compare {' '.join(record['arms'])} --budget-calls {record['budget_calls']}" in said
    assert (record["seeds"], record["runs_alone"]) == (list(CompareConfig.seeds), True), "seconds are compared"
    sentences = [f"- {sentence(Contrast(**one))}" for one in record["contrasts"][measure]]
    first = said.index(sentences[0])
    assert said[first : first + len(sentences)] == sentences


# --- the pages of environments that the embedded policy learns on -------------------------------------------

TRAINED = {"python": "ARPO/Python-v0", "browser-train": "ARPO/Browser-v0", "deep-search-train": "ARPO/DeepSearch-v0"}
"""Records of runs with three seeds and their shuffled controls."""


@pytest.mark.parametrize("record", TRAINED)
@pytest.mark.parametrize(("name", "title"), [("arpo", "arpo"), ("arpo-shuffled", "arpo, rewards shuffled")])
def test_the_table_of_an_environment_shows_the_runs_that_are_kept(record: str, name: str, title: str) -> None:
    runs = arm(record, name)
    success = [spread(runs, f"success_{when}_{how}") for how in ("sampled", "greedy") for when in ("before", "after")]
    numbers = [f"{calls(runs, 'executed'):.1f}", f"{calls(runs, 'inherited'):.1f}"]
    assert f"| {' | '.join([title, *success, *numbers])} |\n" in page(QUOTED[record])


@pytest.mark.parametrize("record", TRAINED)
def test_the_rise_on_an_environment_is_that_of_the_runs_that_are_kept(record: str) -> None:
    rises = [run["success_after_sampled"] - run["success_before_sampled"] for run in arm(record, "arpo")]
    margin = STUDENT_T * stdev(rises) / math.sqrt(len(rises))
    assert f"The rise is {mean(rises):.3f} ± {margin:.3f} (95%, over seeds)" in page(QUOTED[record])


@pytest.mark.parametrize("record", TRAINED)
def test_the_changelog_says_what_the_runs_on_an_environment_showed(record: str) -> None:
    before, after = (mean(run[f"success_{when}_sampled"] for run in arm(record, "arpo")) for when in ("before", "after"))
    said = (
        f"- The embedded policy learns on `{TRAINED[record]}`: held-out success {before:.2f} to {after:.2f} sampled, flat with"
    )
    assert said in page("CHANGELOG.md")


# --- the page of the cold start ------------------------------------------------------------------------------


def test_the_page_of_the_cold_start_says_what_was_measured() -> None:
    record, said = kept("cold-start"), page("docs/cold-start.md").replace("\n", " ")
    assert f"--steps {record['steps']} --batch {record['batch']} " in said
    assert f"from {record['held_out_nats_before']:.3f} to {record['held_out_nats_after']:.3f} nats per token" in said
    titles = {
        "before": "as it comes, one hop",
        "after": "after `arpo sft`, one hop",
        "after_two_hops": "after `arpo sft`, two hops",
    }
    for name, title in titles.items():
        found = record[name]
        assert found["questions"] == 30
        numbers = [found[f"{of}_per_rollout"] for of in ("tool_calls", "malformed_calls")] + [found["truncated"]]
        success = f"{found['success']:.3f} ({found['success_low']:.3f} – {found['success_high']:.3f})"
        assert f"| {' | '.join([title, success, *(f'{number:.2f}' for number in numbers)])} |" in said


@pytest.mark.parametrize("name", ["smollm2-train", "smollm2-hops"])
def test_the_page_of_the_cold_start_says_what_came_after_it(name: str) -> None:
    record, said = kept(name), page("docs/cold-start.md")
    settings, taught = record["settings"], record["cold_start"]
    assert f"--episodes {taught['episodes']} --steps {taught['steps']} --batch {taught['batch']} " in said
    for option in ("budget_calls", "prompts", "rollouts", "action_tokens", "context_length", "eval_questions"):
        assert f"--{option.replace('_', '-')} {settings[option]} " in said.replace("\n", " ")
    first = record["runs"][0]
    assert [run["algorithm"] for run in record["runs"]] == ["arpo", "grpo"]
    trained = [(f"then {run['algorithm'].upper()}", run, "after") for run in record["runs"]]
    for title, run, when in [("after `arpo sft`", first, "before"), *trained]:
        spent = [f"{run[name]:,}" if when == "after" else "0" for name in ("steps", "executed_calls", "sampled_tokens")]
        success = [
            f"{run[f'{when}_{how}']:.3f} ({run[f'{when}_{how}_interval'][0]:.3f} – {run[f'{when}_{how}_interval'][1]:.3f})"
            for how in ("sampled", "greedy")
        ]
        assert f"| {' | '.join([title, *spent, *success])} |" in said
    for run in record["runs"]:
        assert settings["budget_calls"] <= run["executed_calls"] < 1.05 * settings["budget_calls"]
        assert (run["before_sampled"], run["without_tools"]) == (first["before_sampled"], 0.0)
    for env in [key.partition("/")[2] for key in first if key.startswith("before_greedy/")]:
        greedy = [f"{first[f'before_greedy/{env}']:.3f}", *(f"{run[f'after_greedy/{env}']:.3f}" for run in record["runs"])]
        assert "{} before, {} with ARPO and {} with GRPO".format(*greedy) in said


def test_the_changelog_says_what_smollm2_learned() -> None:
    first, second = kept("smollm2-train")["runs"]
    found = [f"{number:.2f}" for number in (first["before_sampled"], first["after_sampled"], second["after_sampled"])]
    assert "held-out success {} to {} (with GRPO, {})".format(*found) in page("CHANGELOG.md")


def test_the_page_of_evaluations_says_what_a_small_chat_model_does_with_benchmarks() -> None:
    record, said = kept("smollm2-benchmarks"), " ".join(page("docs/evaluation.md").split())
    *names, last = [row["benchmark"] for row in record["rows"]]
    assert f"stalls on all {record['questions']} questions of each of {', '.join(names)} and {last}, with no call" in said
    assert f"with {record['action_tokens']} tokens an action" in said
    for row in record["rows"]:
        assert (row["success"], row["tool_calls_per_rollout"], row["ended_stalled"]) == (0.0, 0.0, record["questions"])


# --- the page of many machines --------------------------------------------------------------------------------


def test_the_curves_of_runs_that_collect_ahead_are_those_that_are_kept() -> None:
    record, said = kept("ahead-curves"), page("docs/many-machines.md")
    runs = {ahead: [run for run in record["runs"] if run["ahead"] == ahead] for ahead in (0, 1)}
    for ahead, those in runs.items():
        assert [run["seed"] for run in those] == [1, 2, 3]
        assert {tuple(run["steps"]) for run in those} == {(0, 8, 16, 24, 32, 40, 48)}
        curve = [mean(at) for at in zip(*(run["held_out_sampled"] for run in those), strict=True)]
        assert f"| `--ahead {ahead}` | {' | '.join(f'{success:.3f}' for success in curve)} |" in said
    early = [mean(mean(run["training_reward"][:8]) for run in runs[ahead]) for ahead in (1, 0)]
    assert "{:.3f} instead of {:.3f} over the first eight steps".format(*early) in said
    assert f"`mismatch_kl` was {mean(run['mismatch_kl'] for run in runs[1]):.4f} on" in said
    assert min(run["effective_sample_size"] for run in runs[1]) >= 0.998
    assert max(run["staleness"] for run in runs[0]) == 0.0


def test_the_page_of_many_machines_says_what_collecting_ahead_was_measured_to_save() -> None:
    record, said = kept("ahead"), " ".join(page("docs/many-machines.md").split())
    assert f"a step took {record['ahead_over_waiting']:.2f} times as long with `--ahead 1` as without" in said
    assert f"That is {record['ahead_over_ideal']:.2f} times what it would take if nothing else cost time" in said


# --- the page of hubs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ("TRL | a method call", ("trl",)),
        ("SkyRL-gym | a method call", ("skyrl",)),
        ("verifiers | a turn of our `Env`, which calls the environment in a thread; without the model", ("verifiers",)),
        ("Model Context Protocol | its client and server, in one process", ("mcp",)),
        ("OpenEnv | its client and server, on loopback", ("openenv",)),
        ("copied and replayed | a move, 8 µs in the library", ("textarena_copied", "textarena_replayed")),
        ("turn by turn | a move, 8 µs in the library", ("players_copied",)),
        ("copied and replayed | a move of each side, 16 µs in the library", ("seat_copied", "seat_replayed")),
        ("copied and replayed | a move, 2 µs in the library", ("gem_copied", "gem_replayed")),
        ("copied and replayed | a command, 435 µs in the library", ("textworld_copied", "textworld_replayed")),
    ],
)
def test_the_page_of_hubs_shows_what_a_step_was_measured_to_cost(row: str, names: tuple[str, ...]) -> None:
    ratios = ", ".join(f"{kept('hubs')[f'{name}_over_bare']:.1f}×" for name in names)
    assert f"{row} | {ratios} |\n" in page("docs/hubs.md")


# --- the page of plans --------------------------------------------------------------------------------------


def test_the_page_of_plans_shows_what_was_predicted_and_measured() -> None:
    record, said = kept("plan"), page("docs/planning.md")
    assert f"medians of {record['steps']} steps" in said
    assert f"the largest error is {record['plan_error']:.0%}." in said.replace("\n", " ")
    names = [key.removesuffix(": error") for key in record if key.endswith(": error")]
    assert sum(not name.endswith(": cpu") for name in names) == 7
    for name in names:
        cells = [
            f"{record[f'{name}: {part} {what}']:.2f}" for part in ("rollout", "update") for what in ("predicted", "measured")
        ]
        row = [name.replace(": cpu", ", CPU time"), *cells, f"{record[f'{name}: error']:+.0%}"]
        assert f"| {' | '.join(row)} |\n" in said


# --- a run's page --------------------------------------------------------------------------------------------


def test_the_page_of_training_says_how_fast_the_page_of_a_run_was() -> None:
    record, said = kept("page"), " ".join(page("docs/training.md").split())
    assert record["trees"] == "500,10000"
    seen, opened = (
        max(value for key, value in record.items() if re.search(rf"_{name}_ms_\d+$", key)) for name in ("paint", "open")
    )
    assert f"first paint within {seen:.0f} ms, and a click opens a tree within {opened:.0f} ms: medians of the slowest" in said
    assert (seen < 1000, opened < 200) == (True, True), "what a person does not wait for"


# --- weights, and the main process ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["1.4M", "135M", "1.5B"])
def test_the_page_of_training_says_what_a_weight_update_costs(size: str) -> None:
    record = kept("weights")
    seconds = [record.get(f"{way}_seconds_at_{size}") for way in ("in_process", "folder", "vllm", "probe")]
    cells = ["–" if one is None else f"{one:.2g}" for one in seconds]
    assert f"| {size} | {record[f'megabytes_at_{size}']:,.0f} | {' | '.join(cells)} |\n" in page("docs/training.md")


def test_the_page_of_many_machines_says_that_the_main_process_does_not_grow_with_the_model() -> None:
    record, said = kept("driver"), " ".join(page("docs/many-machines.md").split())
    held = {f"{record[f'driver_megabytes_at_{size}']:.0f} MB" for size in ("1.4M", "135M")}
    computed = {f"{record[f'driver_seconds_at_{size}']:.1f} seconds" for size in ("1.4M", "135M")}
    assert (held, computed) == ({"406 MB"}, {"0.8 seconds"})
    assert f"with {record['paths']:,} paths a step it held 406 MB for 1.4M parameters and for 135M" in said
    assert "computed for 0.8 seconds a step" in said


# --- on a GPU -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in QUOTED if name.startswith("gpu-")])
def test_a_record_from_a_gpu_names_it_as_its_page_does(name: str) -> None:
    records = kept(name) if isinstance(kept(name), list) else [kept(name)]
    assert {record["device"] for record in records} == {"NVIDIA H200"}
    assert f"]({'measurements/' + name + '.json'})" in page(QUOTED[name])
    assert "one NVIDIA H200" in page(QUOTED[name])


def test_the_run_on_a_gpu_is_the_one_that_is_kept() -> None:
    run, said = kept("gpu-train"), page("docs/training.md").replace("\n", " ")
    assert f"--steps {run['steps']}`" in said
    assert f"took [{run['seconds']:.0f} s]" in said
    assert f"from {run['success_before_sampled']:.3f} to {run['success_after_sampled']:.3f} sampled" in said
    share = f"ARPO executed {kept('gpu-sharing')['arpo_executed_share']:.0%} of the [tool calls](measurements/gpu-sharing.json)"
    assert share in said


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_table_of_updates_on_a_gpu_shows_what_was_measured(ratio: float) -> None:
    cells = []
    for record in kept("gpu-pack"):
        flat = record[f"path_tokens_at_{ratio}"] / record[f"flat_seconds_at_{ratio}"] / 1e3
        gigabytes = record[f"flat_megabytes_at_{ratio}"] / 1024
        packed = flat * record[f"speedup_at_{ratio}"], gigabytes / record[f"memory_ratio_at_{ratio}"]
        cells += [f"{speed:.0f} ({memory:.1f})" for speed, memory in ((flat, gigabytes), packed)]
    assert f"| {ratio}× | {' | '.join(cells)} |\n" in page("docs/training.md")


def test_the_table_of_comparisons_on_a_gpu_shows_what_was_measured() -> None:
    for record in kept("gpu-agreement"):
        products = "TF32" if record["products"] == "high" else record["dtype"]
        attention = {"sdpa": "SDPA", "flex_attention": "FlexAttention"}.get(record["attention"], record["attention"])
        apart, packed = record["of_what_rounding_explains"], record["packed_of_what_rounding_explains"]
        tried = f"{len(apart)} of {len(apart) + len(record['refused'])}"
        numbers = [f"{max(of.values()):.2f}" for of in (apart, packed)]
        assert f"| {' | '.join([products, attention, tried, *numbers])} |\n" in page("docs/models.md")


# --- entropy around tool results ------------------------------------------------------------------------------


def test_the_page_says_what_the_entropies_around_results_were() -> None:
    said = page("docs/training.md").replace("\n", " ")

    def interval(one: Record, sign: str = "") -> str:
        return f"{one['mean']:{sign}.3f} ({one['low']:{sign}.3f} – {one['high']:{sign}.3f})"

    rounds = {}
    for name, title in {"start": "stored start", "trained": "after ARPO"}.items():
        record = kept("entropy")[name]
        (search,) = record["tools"].values()
        cells = [interval(search["at"]["1"]), interval(record["average"]), interval(search["change"], "+")]
        assert f"| {title} | {search['results']} | {' | '.join(cells)} |" in said
        assert search["at"]["1"]["low"] > record["average"]["high"], "uncertain after results"
        assert search["change"]["low"] > 0.0, "and more so than at the start of a path"
        rounds[name] = "{:.3f} against {:.3f}".format(*(search["rounds"][number]["mean"] for number in ("1", "2")))
    assert f"({rounds['start']} nats per token), after training it is the other way round ({rounds['trained']})" in said
