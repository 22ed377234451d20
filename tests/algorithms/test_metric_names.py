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
    assert written == set(listed)
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {named(metric) for line in lines for metric in line} <= {"step", *listed}


def test_clones_cost_time_only_where_there_are_some(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(np.isfinite(line["clone_seconds_per_prompt"]) and line["clone_seconds_per_prompt"] > 0.0 for line in lines)
