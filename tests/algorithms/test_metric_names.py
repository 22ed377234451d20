"""The page's table of metrics has the name of every number that a run writes, and no other."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from pages import ROOT
from rollout_toys import CountTool
from small_recipes import small
from test_every_recipe import Lenient, trainer

from algorithms import Algorithm
from algorithms.cli.evaluations import as_metrics
from algorithms.cluster import COUNTS
from algorithms.tree import Status


class Member(Lenient):
    """One environment of a mixture, which measures something."""

    member = "Toy/A-v0"

    def measures(self) -> dict[str, float]:
        return {"calls": float(self._turn)}


def table() -> list[str]:
    page = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8").partition("## Metrics")[2]
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def named(metric: str) -> str:
    """Returns how the table calls a metric."""
    if metric.startswith("env/"):
        return "env/NAME"
    if metric.startswith("held_out/"):
        metric = re.sub("^held_out/(sampled|greedy)", "held_out/WAY", metric)
        metric = re.sub("_(low|high)(?=/|$)", "_END", metric)
        return re.sub("^(held_out/WAY(_END)?)/.*", r"\1/ID", re.sub("_env/[a-z]+", "_env/NAME", metric))
    if metric.startswith("failed_") and metric.removeprefix("failed_") in {str(status) for status in Status}:
        return "failed_STATUS"
    return re.sub("/.*", "/ID", metric)


def first_step(algorithm: Algorithm) -> Mapping[str, float]:
    async def one() -> Mapping[str, float]:
        some = replace(trainer(algorithm), make_env=lambda: Member(CountTool()))
        metrics = (await some.step(0)).metrics
        await some.policy.close()
        return metrics

    return asyncio.run(one())


def test_the_table_has_every_metric_that_a_run_writes_and_no_other(finished):
    listed = table()
    assert len(listed) == len(set(listed)) > 40
    runs = [first_step(small(case)) for case in ("arpo", "arpo, corrected", "ppo")]
    written = {named(metric) for run in runs for metric in run}
    written |= {*COUNTS, "staleness"}  # as of a run whose rollouts are elsewhere, and ahead of the learner
    results = json.loads((finished / "before.json").read_text(encoding="utf-8"))
    results |= {"greedy_env/calls": 1.0, "greedy_env/calls_interval": [0.5, 1.5]}  # as where something is measured
    results |= {"sampled/Toy/A-v0": 0.5, "sampled_interval/Toy/A-v0": [0.0, 1.0]}  # as of a mixture
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    written |= {named(metric) for line in lines for metric in line} - {"step"}
    assert written | {named(metric) for metric in as_metrics(results)} == set(listed)


def test_clones_cost_time_only_where_there_are_some(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(np.isfinite(line["clone_seconds_per_prompt"]) and line["clone_seconds_per_prompt"] > 0.0 for line in lines)
